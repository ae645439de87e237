import numpy
import tritonclient.http as triton

pictures = numpy.load("pictures.npy")
samples = triton.InferInput("samples", list(pictures.shape), "UINT8").set_data_from_numpy(pictures)
answer = triton.InferenceServerClient("127.0.0.1:8000").infer("pets", [samples])
print(answer.as_numpy("predicted"), answer.as_numpy("confidence"))
