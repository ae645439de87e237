from pathlib import Path

from labelloop import Client

with Client() as client:
    run = client.start("photos", classes=["cat", "dog"], labels_from="queue", first_batch=10, batch_size=5, budget=30)
    for request in run.requests("kim"):
        run.submit("kim", {request: input(f"{request.name}: cat, dog or skip? ")})
    print(run.wait().accuracy, run.labels().to_pandas(), sep="\n")
    Path("model.onnx").write_bytes(run.model())
