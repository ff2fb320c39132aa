#!/bin/bash
# A loop in bash: it writes how far it came, and goes on from there. Started with what it finds in checkpoints/count.
mkdir -p checkpoints
begin=$(cat checkpoints/count 2>/dev/null || echo 0)
trap 'echo "$i" > checkpoints/count.part && mv checkpoints/count.part checkpoints/count; exit 0' TERM
for ((i = begin; i < ${1:-100}; i++)); do
    echo "step=$((i + 1)) value=$((i * i))"
    sleep "${2:-0.05}" & wait $!
done
