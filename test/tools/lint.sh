#!/bin/bash
echo 1..1
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
if shellcheck test/tools/*.sh .ci/run >&2; then echo ok 1 - shellcheck; else echo not ok 1 - shellcheck; fi
