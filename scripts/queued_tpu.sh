#!/usr/bin/env bash
# A run on a slice of TPUs of Google Cloud, which is queued for until there is one, and
# again whenever it was preempted.
#
#   PROJECT=mine SHARE=10.0.0.2:/runs scripts/queued_tpu.sh \
#       --config=configs/medloc.py:data=/mnt/shared/data,model=/mnt/shared/model \
#       --config.mesh.data=1 --config.mesh.fsdp=4 --config.mesh.model=4 \
#       --workdir=/mnt/shared/run
#
# What follows the script goes to run.py. Start it in tmux on a machine that stays on. The
# slice is deleted when the run has ended, whether well or not, since it costs until then.

set -euo pipefail

PROJECT=${PROJECT:?the project of Google Cloud that pays}
ZONE=${ZONE:-us-west4-a}
NAME=${NAME:-medjax}
# What --mode=plan --topology=v5e:4x4 has planned for: four hosts of four chips.
ACCELERATOR=${ACCELERATOR:-v5litepod-16}
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}
# --spot is cheap and may be taken away; "" is on demand.
CAPACITY=${CAPACITY---spot}
# A file system that all hosts mount (NFS, such as Filestore). It holds this repository in
# the folder medjax, the data, the model and the workdir.
SHARE=${SHARE:?HOST:/EXPORT of an NFS share}
MOUNT=${MOUNT:-/mnt/shared}
# Seconds between two looks at the queue.
PAUSE=${PAUSE:-30}

if [[ " $* " != *" --workdir=$MOUNT/"* ]]; then
  echo "$0: expected --workdir=$MOUNT/..., which all hosts see and a new slice finds" >&2
  exit 1
fi

place=(--project="$PROJECT" --zone="$ZONE")

state() {
  gcloud compute tpus queued-resources describe "$NAME" "${place[@]}" \
    --format='value(state.state)' || echo unknown
}

on_all() {
  gcloud compute tpus tpu-vm ssh "$NAME" "${place[@]}" --worker=all --command="$1"
}

delete() {
  gcloud compute tpus queued-resources delete "$NAME" "${place[@]}" --force --quiet
}

# An image of TPUs has an older Python, so uv fetches one. Each host installs a copy of its
# own: installing in one folder from several hosts at once spoils it.
prepare="set -e
sudo mkdir -p $MOUNT
mountpoint -q $MOUNT || sudo mount -t nfs $SHARE $MOUNT
python3 -m pip install --quiet --user uv
cp -rT $MOUNT/medjax ~/medjax
~/.local/bin/uv venv --quiet --allow-existing --python 3.12 ~/venv
~/.local/bin/uv pip install --quiet --python ~/venv/bin/python -e ~/medjax'[tpu]'"

# A unit of systemd, which cannot be started twice, and is told of a shutdown by SIGTERM, at
# which the run saves. Its exit code 3 is a run that has finished, with warnings.
run="cd ~/medjax && { sudo systemd-run --unit=medjax --collect --wait --pipe \\
--uid=\$(id -u) --working-directory=\$PWD --property=KillMode=mixed \\
--property=TimeoutStopSec=600 --property=LimitMEMLOCK=infinity \\
~/venv/bin/python run.py$(printf ' %q' "$@") || test \$? -eq 3; }"
stop="systemctl is-active --quiet medjax && sudo systemctl stop medjax"

# shellcheck disable=SC2329 # it is called by the trap
finish() {
  on_all "$stop" || true # at ctrl-C it still runs, and saves
  delete || echo "deleting $NAME failed, IT STILL COSTS: see queued-resources list" >&2
}

while :; do
  gcloud compute tpus queued-resources create "$NAME" "${place[@]}" --node-id="$NAME" \
    --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME" ${CAPACITY:+"$CAPACITY"}
  trap finish EXIT
  trap 'exit 130' INT TERM
  until [[ $(state) == ACTIVE ]]; do
    if [[ $(state) == FAILED ]]; then
      echo "$NAME has FAILED before it was there: see queued-resources describe" >&2
      exit 1
    fi
    sleep "$PAUSE"
  done

  while :; do
    code=0
    { on_all "$prepare" && on_all "$run"; } || code=$?
    [[ $code -ne 0 ]] || exit 0
    on_all "$stop" || break
    echo "the connection broke while the run went on: it has saved, and is started again"
  done

  # A preempted slice is told of a little later than its connections break.
  for _ in 1 2 3 4; do
    now=$(state)
    [[ $now == ACTIVE || $now == unknown ]] || break
    sleep "$PAUSE"
  done
  if [[ $now == ACTIVE || $now == unknown ]]; then
    echo "the run failed on a slice that is there: see above, and WORKDIR/processes" >&2
    exit 1
  fi
  echo "$NAME is $now: queued for again, the run goes on from its newest checkpoint"
  trap - EXIT
  delete
done
