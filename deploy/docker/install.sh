# Install what locks name, by their hashes, and leave out what never runs: sh install.sh FOLDER LOCK...
# FOLDER is laid over /opt/venv later. Locks are in /opt/locks; PyTorch's index is read for torch.lock alone.
set -eu
to=$1
shift
folder=$to/lib/python3.11/site-packages
[ -e /opt/pip ] || python3 -m venv /opt/pip
for lock; do
  index=
  if [ "$lock" = torch.lock ]; then index="--index-url $TORCH_CPU_INDEX"; fi
  /opt/pip/bin/python3 -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-input --prefix "$to" \
    --ignore-installed --root-user-action ignore --require-hashes --no-deps --no-compile --only-binary :all: \
    $PIP_OPTIONS --requirement "/opt/locks/$lock" $index
done

cd "$folder"
rm -rf "$to/share"
[ ! -d "$to/bin" ] || find "$to/bin" -mindepth 1 ! -name 'python*' -delete # programs of libraries
find . -depth -type d \( -name tests -o -path ./onnx/backend/test -o -path ./joblib/test \) -exec rm -rf {} +
find . -type f \( -name '*.a' -o -name '*.h' -o -name '*.hpp' -o -name '*.cuh' -o -name '*.c' -o -name '*.cc' -o -name '*.cpp' \
  -o -name '*.pxd' -o -name '*.pyx' -o -name '*.pyi' -o -name '*.cmake' \) -delete
find torch/bin -type f ! -name torch_shm_manager -delete 2>/dev/null || true # trainer only; the rest are tests
rm -rf torch/test torch/include torch/share
# The library for programs in C, a second copy of all of ONNX Runtime, and tools that make models.
rm -rf onnxruntime/capi/libonnxruntime.so.* onnxruntime/transformers onnxruntime/quantization onnxruntime/tools \
  onnxruntime/datasets
# Parts that neither scikit-learn nor the scorer imports; tests/docker/computing.py uses all that it does.
rm -rf scipy/io scipy/signal scipy/odr scipy/cluster scipy/fftpack scipy/datasets numpy/distutils numpy/_core/_simd.*.so
for part in compose cross_decomposition datasets ensemble feature_extraction feature_selection gaussian_process impute \
  inspection mixture neural_network semi_supervised; do rm -rf "sklearn/$part"; done
rm -rf onnx/reference onnx/fuzz
# Servers of tables.
rm -rf pyarrow/include pyarrow/src pyarrow/libarrow_flight.* pyarrow/libarrow_python_flight.* pyarrow/_flight.*
# botocore describes every service of AWS; these are what S3, SQS and signing in need.
[ ! -d botocore/data ] || find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sqs ! -name sts ! -name 'sso*' \
  ! -name signin -exec rm -rf {} +
# Symbols for debuggers; what wheels carry of other projects (*.libs) was moved about in its file, which strip may break.
command -v strip >/dev/null || { apt-get -q update && apt-get -q install -y --no-install-recommends binutils; }
find . -type f -name '*.so' ! -path './*.libs/*' ! -path './torch/*' -exec strip --strip-unneeded {} +
/opt/pip/bin/python3 -m compileall -q -j 0 -s "$to" -p /opt/venv --invalidation-mode unchecked-hash "$folder" ||
  echo "some files are not for this Python: they are compiled by whoever reads them"
