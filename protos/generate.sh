#!/usr/bin/env bash
# Regenerates the committed Python messages and stubs, and descriptor sets for other tools, from the .proto files.
#
#   protos/generate.sh [OUT]
#
# OUT is the folder that becomes the package naiad_protos (default: protos/python/naiad_protos).
# PYTHON names the interpreter that has grpcio-tools and mypy-protobuf (default: .venv/bin/python, else python3).
set -euo pipefail

protos="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
out="${1:-$protos/python/naiad_protos}"
if [[ -z "${PYTHON:-}" ]]; then
  PYTHON="$protos/../.venv/bin/python"
  [[ -x "$PYTHON" ]] || PYTHON=python3
fi
scripts="$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("scripts"))')"

mkdir -p "$out"
cd "$protos"
mapfile -t files < <(find naiad -name '*.proto' | LC_ALL=C sort)
"$PYTHON" -m grpc_tools.protoc --proto_path=. \
  --plugin=protoc-gen-mypy="$scripts/protoc-gen-mypy" \
  --plugin=protoc-gen-mypy_grpc="$scripts/protoc-gen-mypy_grpc" \
  --python_out="$out" --grpc_python_out="$out" \
  --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" \
  "${files[@]}"
for file in "${files[@]}"; do
  "$PYTHON" -m grpc_tools.protoc --proto_path=. --include_imports --include_source_info \
    --descriptor_set_out="$out/${file%.proto}.binpb" "$file"
done

# The files are registered under their proto path, but live inside naiad_protos: `naiad` is the server.
# The second rule gives the message classes the module they really live in, so that they can be pickled.
find "$out/naiad" -type f \( -name '*_pb2*.py' -o -name '*_pb2*.pyi' \) -exec sed -i.bak \
  -e 's/^from naiad\./from naiad_protos.naiad./' \
  -e "s/\(BuildTopDescriptorsAndMessages(DESCRIPTOR, '\)naiad\./\1naiad_protos.naiad./" {} +
find "$out/naiad" -name '*.bak' -delete
find "$out/naiad" -type d ! -name __pycache__ -exec touch {}/__init__.py \;
