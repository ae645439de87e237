# Make /opt/venv of what locks name, by their hashes, and leave out what never runs:
# sh install.sh LOCK... (torch.lock before the one that holds what torch needs)
set -eu
folder=/opt/venv/lib/python3.11/site-packages
python3 -m venv /opt/venv
install() {
  /opt/venv/bin/python3 -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-input \
    --root-user-action ignore --require-hashes --no-deps --no-compile $PIP_OPTIONS --requirement "$@"
}
install /opt/locks/build.lock
for lock; do
  index=
  if [ "$lock" = torch.lock ]; then index="--index-url $TORCH_CPU_INDEX"; fi
  # nkeys alone has no wheel. It is built by the setuptools of build.lock: without a hash nothing comes in.
  install "/opt/locks/$lock" --only-binary :all: --no-binary nkeys --no-build-isolation $index
done
grep -q '^setuptools==' "/opt/locks/$lock" || /opt/venv/bin/python3 -m pip uninstall --quiet --yes setuptools
/opt/venv/bin/python3 -m pip uninstall --quiet --yes pip

cd "$folder"
find . -depth -type d \( -name tests -o -path ./onnx/backend/test \) -exec rm -rf {} +
find . -type f \( -name '*.a' -o -name '*.h' -o -name '*.hpp' -o -name '*.cuh' -o -name '*.c' -o -name '*.cpp' \
  -o -name '*.pxd' -o -name '*.pyx' -o -name '*.pyi' -o -name '*.cmake' \) -delete
find torch/bin -type f ! -name torch_shm_manager -delete 2>/dev/null || true # trainer only; the rest are tests
rm -rf torch/test torch/include torch/share pyarrow/include
find /opt/venv/bin -mindepth 1 ! -name 'python*' -delete
/opt/venv/bin/python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$folder" ||
  echo "some files are not for this Python: they are compiled by whoever reads them"
