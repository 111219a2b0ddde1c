#!/usr/bin/env bash
# Builds the OpenTelemetry Collector of tests/otel/go from Go modules into the cache folder that all scripts share.
# In:  SLUICE_CACHE as in build-kube.sh.
# Out: $SLUICE_CACHE/otel/bin/otelcol. Well under a second when nothing changed, about a minute from nothing.
#      Nothing else on the machine changes, but for Go's own module and build caches.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
bin=${SLUICE_CACHE:-$root/.cache}/otel/bin
module=$root/tests/otel/go

stamp() { cat "$module/go.mod" "$module/go.sum" "$module/main.go" | sha256sum | cut -d' ' -f1; }

mkdir -p "$bin"
exec 9>"$bin/.lock"
flock 9
if [ -x "$bin/otelcol" ] && [ "$(cat "$bin/otelcol.stamp" 2>/dev/null)" = "$(stamp)" ]; then
  echo "build-otelcol: up to date"
  exit 0
fi
"$root/scripts/need.sh" go
echo "build-otelcol: building the collector (once)"
(cd "$module" && CGO_ENABLED=0 nice -n 5 go build -trimpath -ldflags "-s -w" -o "$bin/otelcol.new" .)
# A program that is running keeps its old file.
mv "$bin/otelcol.new" "$bin/otelcol"
stamp >"$bin/otelcol.stamp"
echo "build-otelcol: built $bin/otelcol"
