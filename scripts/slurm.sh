#!/usr/bin/env bash
# A run on several nodes of eight H100 under SLURM. One task a node, with all eight GPUs:
#
#   sbatch scripts/slurm.sh --config=configs/medloc.py:data=PATH,model=FOLDER \
#       --workdir=/shared/run
#
# One task a GPU:
#
#   sbatch --ntasks-per-node=8 --cpus-per-task=12 scripts/slurm.sh --config=... --workdir=...
#
# What follows the script goes to run.py. What stands in front of it overrules an #SBATCH
# line below, as in the second command; PYTHON and REPOSITORY are read off the environment.

#SBATCH --job-name=medjax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
# GPUs of the node, not of a task: a task that sees its own alone cannot reach the others
# of its node over NVLink. Which ones a task takes, run.py decides.
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --time=24:00:00
# Ten minutes ahead of the limit this shell, not the tasks, is told: see `save` below.
#SBATCH --signal=B:USR1@600
# After a preemption, or when a node is lost, SLURM puts the job into the queue again.
#SBATCH --requeue
# A job that comes back writes on, rather than over what it wrote.
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

set -euo pipefail

# Of an environment with medjax[cuda12], which all nodes see.
PYTHON=${PYTHON:-python}
# The folder with run.py.
REPOSITORY=${REPOSITORY:-${SLURM_SUBMIT_DIR:?is set by sbatch: start this by sbatch}}

if [[ " $* " != *" --workdir="* ]]; then
  echo "$0: expected --workdir=FOLDER, one that all nodes see and a job that comes back finds" >&2
  exit 1
fi
cd "$REPOSITORY"

# The tasks stop at one step, save, and exit with 143. That is asked for by scancel, which
# reaches the tasks of all nodes: srun itself takes a SIGTERM for its own end.
saving=""
interrupted=""
# shellcheck disable=SC2329 # it is called by the trap
save() {
  interrupted=yes
  [[ -z $saving ]] || return 0 # a second SIGTERM would end them at once
  saving=yes
  echo "the time limit is near: the run saves and goes back into the queue"
  scancel --signal=TERM "$SLURM_JOB_ID" || echo "scancel failed: nothing is saved" >&2
}
trap save USR1

# srun does not take --cpus-per-task over from sbatch. With --kill-on-bad-exit it would
# kill tasks that still save; run.py ends them all by itself when one of them fails.
srun \
  --nodes="$SLURM_JOB_NUM_NODES" \
  --ntasks-per-node="$SLURM_NTASKS_PER_NODE" \
  --cpus-per-task="$SLURM_CPUS_PER_TASK" \
  --kill-on-bad-exit=0 \
  "$PYTHON" run.py "$@" &
step=$!

# A trapped signal ends `wait` early, so wait on until it was none.
while :; do
  interrupted=""
  code=0
  wait "$step" || code=$?
  [[ -n $interrupted ]] || break
done

# Only what the time limit ended comes back: neither what failed, nor what you cancelled.
if [[ -n $saving && $code -eq 143 ]]; then
  scontrol requeue "$SLURM_JOB_ID"
elif [[ $code -eq 3 ]]; then
  echo "finished, with warnings that make the result doubtful: see above"
elif [[ $code -ne 0 ]]; then
  echo "ended with exit code $code: the same sbatch goes on from the newest checkpoint" >&2
fi
exit "$code"
