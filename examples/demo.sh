#!/bin/sh
# The main job on the embedded test service, in a fresh workspace: .demo/ beside the Makefile.
set -eu
unset BATCH_INFER_WORKSPACE  # the demo has a workspace of its own
bin=$(cd "$1" && pwd)
root=$(pwd)
demo="$root/.demo"

if [ -d "$demo" ]; then
  "$bin/batch_infer" -daemon stop -workspace "$demo" >/dev/null 2>&1 || true
  rm -rf "$demo"
fi
mkdir "$demo"
cp config.yaml.example "$demo/config.yaml"
chmod 600 "$demo/config.yaml"
cd "$demo"

"$bin/batch_infer" -pipeline "$root/examples/questions.jsonl" -task-id demo -follow
"$bin/batch_infer" -list
echo
echo "answers: $(wc -l < merged/demo/output.jsonl | tr -d ' ')"
echo "the first of them:"
head -n 1 merged/demo/output.jsonl | cut -c 1-400
"$bin/batch_infer" -daemon stop >/dev/null
# The test service outlives the daemon; nobody needs this one any more.
service=$(sed -n 's/.*"pid": *\([0-9][0-9]*\).*/\1/p' .testservice/service.json 2>/dev/null | head -n 1)
if [ -n "$service" ]; then kill "$service" 2>/dev/null || true; fi
