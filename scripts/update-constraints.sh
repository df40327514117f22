#!/usr/bin/env bash
# Writes constraints/py<version>.txt, one for each Python that is supported, from the dependencies in pyproject.toml.
#
# These files are what start-dev.sh and test.sh install from: the same versions on every machine. They hold names and
# versions only, no address of an index, so that they work behind any mirror.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=${UV:-uv}
versions=(3.10 3.11 3.12 3.13)

command -v "$uv" >/dev/null || {
  echo "update-constraints.sh: needs uv (pip install uv), or its path in UV" >&2
  exit 1
}

compile() {
  local version=$1 target=constraints/py$1.txt
  printf '# Tested versions for Python %s. Written by scripts/update-constraints.sh.\n' "$version" >"$target.new"
  "$uv" pip compile --quiet --upgrade --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
    --python-version "$version" --extra airflow --extra api --extra dev pyproject.toml >>"$target.new"
  mv "$target.new" "$target"
  printf '%s: %s packages\n' "$target" "$(grep -c == "$target")"
}

for version in "${versions[@]}"; do
  compile "$version"
done
