#!/bin/bash
# The static script of every Muster job. It takes everything from the files of the run folder and runs none of their text,
# except job/setup.sh, which is the site's and the person's own shell code.
#
#   body.sh batch RUN [VERB WORDS]    on the first node, by sbatch: attempt, traps, one srun for the ranks, decision, requeue
#   body.sh node RUN VERB [WORDS]     in each node's step, by srun: setup, our names, then Python
#   body.sh clean RUN                 on each node after the ranks: the job's scratch folder goes
#   body.sh local RUN [VERB WORDS]    without Slurm: attempt, our names, then Python
#
# VERB is `agent` where none is given; only after an agent is anything decided and requeued.
# Needs bash and coreutils, and Slurm's commands in `batch`. The files are named in conf/layout.py.
set -u -o pipefail

# Variables that pass the scrub always. A trailing * is a prefix. job/allow adds the site's and the person's.
readonly PASSING='PATH HOME USER LOGNAME SHELL LANG LANGUAGE LC_* TZ TERM PWD SHLVL _ SLURM_CONF
  MODULEPATH* MODULESHOME MODULES_* LMOD_* CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES'
readonly PORT_FIRST=15000 PORT_COUNT=16000 # below Linux's ephemeral ports, away from torch's 29500
readonly PORT_TRIES=5
readonly DECIDE_TRIES=4
readonly STEP_ENDS_S=60 # above Slurm's own KillWait (30 s)
readonly BUILD_S=1800   # longer than an extension takes to compile

say() { printf 'muster: %s\n' "$*"; }

fail() {
  printf 'muster: %s\n' "$*" >&2
  exit 1
}

# number VALUE DEFAULT: VALUE where it is a plain number. Arithmetic on anything else would evaluate it.
number() {
  if [[ $1 =~ ^[0-9]{1,9}$ ]]; then printf '%s' "$((10#$1))"; else printf '%s' "$2"; fi
}

declare -A settings=([continuation]=requeue [max_requeues]=20 [export]='' [lock_patience]=20 [host_suffix]='' [port]=0
  [scratch]=/tmp [umask]=077 [extensions]=default)

read_settings() {
  local line
  while IFS= read -r line || [[ -n $line ]]; do
    [[ $line == [a-z_]*=* ]] && settings[${line%%=*}]=${line#*=}
  done <"$run/job/settings"
  [[ ${settings[umask]} =~ ^0?[0-7]{3}$ ]] || fail "job/settings: umask=${settings[umask]} is not three octal digits"
  umask "${settings[umask]}"
}

# scrub MORE...: unset every exported variable and function that neither PASSING, MORE nor job/allow names.
scrub() {
  local pattern name passes
  local -a patterns
  set -f
  # shellcheck disable=SC2206 # split into words on purpose; -f keeps * from becoming file names
  patterns=($PASSING "$@")
  set +f
  if [[ -f $run/job/allow ]]; then
    while IFS= read -r pattern || [[ -n $pattern ]]; do
      [[ $pattern =~ ^[A-Za-z_][A-Za-z0-9_]*\*?$ ]] && patterns+=("$pattern")
    done <"$run/job/allow"
  fi
  while IFS= read -r name; do
    passes=
    for pattern in "${patterns[@]}"; do
      # shellcheck disable=SC2053 # the right side is a pattern on purpose
      [[ $name == $pattern ]] && passes=yes && break
    done
    [[ -n $passes ]] || unset -v "$name" 2>/dev/null
  done < <(compgen -e)
  while IFS= read -r name; do
    [[ ${name##* } == module || ${name##* } == ml ]] || unset -f "${name##* }"
  done < <(declare -Fx)
}

# job/env: NAME=VALUE lines, exported as they are.
export_environment() {
  local line
  [[ -f $run/job/env ]] || return 0
  while IFS= read -r line || [[ -n $line ]]; do
    [[ ${line%%=*} =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] && export "${line%%=*}=${line#*=}"
  done <"$run/job/env"
}

# A word in STOP asks the running attempt to save and end. The first word stays.
write_stop() {
  [[ -e $run/STOP ]] && return 0
  printf '%s\n' "$1" >"$run/.STOP.$$" && mv -n "$run/.STOP.$$" "$run/STOP"
  rm -f "$run/.STOP.$$"
  say "wrote STOP: $1"
}

# ended JOB: whether the job that holds the run is surely gone. A local one is known by its process on this host.
ended() {
  local record
  case $1 in
    slurm:*)
      # Without words it has ended, unless squeue itself failed or was killed.
      record=$(timeout 30 squeue -h -o %T -j "${1#slurm:}" 2>&1) && [[ -z $record ]] && return 0
      [[ $record == *'Invalid job id'* ]]
      ;;
    local:*)
      for record in "$run"/attempts/*/job.json; do
        [[ -f $record && $(<"$record") == *"\"$1\", "*"\"host\": \"$HOSTNAME\""* ]] && ! works_here "${1#local:}" && return 0
      done
      return 1
      ;;
  esac
}

# works_here PID: whether that process works for this run. Its number may be another's by now, and one that has ended
# keeps it, without words, until its parent has looked.
works_here() {
  local words=''
  { words=$(tr '\0' ' ' <"/proc/$1/cmdline"); } 2>/dev/null
  [[ $words == *"${run##*/}"* ]]
}

# take_lock JOB PATIENCE: LOCK names the one job that may write into the run. It appears with its content, as a link. A
# job that just stopped still holds it for some seconds while its nodes are cleaned: worth PATIENCE pauses of 3 s.
take_lock() {
  local holder='' pauses=0
  printf '%s\n' "$1" >"$run/.LOCK.$$" || fail "cannot write into $run"
  while true; do
    holder=
    if ln "$run/.LOCK.$$" "$run/LOCK" 2>/dev/null || { IFS= read -r holder <"$run/LOCK" && [[ $holder == "$1" ]]; }; then
      rm -f "$run/.LOCK.$$"
      return 0
    fi
    if [[ -n $holder ]] && ended "$holder"; then
      remove_lock "$holder"
    elif ((pauses < $2)); then
      sleep 3
    fi
    ((pauses++ < $2 + 1)) || break
  done
  rm -f "$run/.LOCK.$$"
  fail "$holder holds the run (LOCK); one job at a time"
}

# remove_lock JOB: the LOCK of a job that is gone. Another job may have put its own in its place meanwhile: that stays.
remove_lock() {
  local found='' stale=$run/.LOCK.stale.$$
  mv "$run/LOCK" "$stale" 2>/dev/null || return 0
  IFS= read -r found <"$stale"
  if [[ $found == "$1" ]]; then say "$1 is gone, its LOCK too"; else ln "$stale" "$run/LOCK" 2>/dev/null; fi
  rm -f "$stale"
}

release_lock() {
  local holder=''
  [[ -f $run/LOCK ]] && IFS= read -r holder <"$run/LOCK"
  [[ $holder == "$MUSTER_JOB" ]] && rm -f "$run/LOCK"
  return 0
}

# begin JOB ID: the next free attempts/N becomes ours, with job.json; an old STOP ends the run or moves into the attempt.
begin() {
  local word='' token
  [[ -f $run/STOP ]] && IFS= read -r word <"$run/STOP"
  case $word in
    stopped | cancelled)
      say "STOP says '$word': nothing is started; \`muster resume\` goes on"
      exit 0
      ;;
  esac
  mkdir -p "$run/attempts" || fail "cannot write into $run"
  if [[ $1 == slurm:* ]]; then take_lock "$1" "$(number "${settings[lock_patience]}" 20)"; else take_lock "$1" 0; fi
  attempt=0
  until mkdir "$run/attempts/$attempt" 2>/dev/null; do
    [[ -d $run/attempts/$attempt ]] || fail "cannot make $run/attempts/$attempt"
    attempt=$((attempt + 1))
  done
  folder=$run/attempts/$attempt
  since=$(first_of_series)
  mkdir "$folder/logs" "$folder/failures" "$folder/agents" || fail "cannot write into $folder"
  [[ -e $run/STOP ]] && mv "$run/STOP" "$folder/STOP.old"
  # The token is known to those alone who may read this folder: by it the nodes of an attempt know each other.
  token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  printf '{"job": "%s", "job_id": "%s", "host": "%s", "pid": %d, "time": %(%s)T, "attempt": %d, "since": %d, "verb": "%s", "token": "%s"}\n' \
    "$1" "$2" "$HOSTNAME" "$$" -1 "$attempt" "$since" "$verb" "$token" >"$folder/.job.json"
  mv "$folder/.job.json" "$folder/job.json"
  export MUSTER_RUN=$run MUSTER_ATTEMPT=$attempt MUSTER_JOB=$1
}

# free_port FIRST: the first port from there on at which nobody on this host answers.
free_port() {
  local port=$1 tries
  for ((tries = 0; tries < 100; tries++)); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    port=$((PORT_FIRST + (port + 1 - PORT_FIRST) % PORT_COUNT))
  done
  printf '%s' "$port"
}

# choose_port SEED: the site's own port, or one that follows from SEED.
choose_port() {
  local port
  port=$(number "${settings[port]}" 0)
  ((port > 0)) || port=$((PORT_FIRST + $1 % PORT_COUNT))
  MUSTER_PORT=$(free_port "$port")
  export MUSTER_PORT
}

scratch_folder() {
  printf '%s/muster-%s/job-%s-%s-%s' "${settings[scratch]}" "$UID" "${MUSTER_JOB//[^A-Za-z0-9]/-}" \
    "$MUSTER_ATTEMPT" "$MUSTER_NODE_RANK"
}

# Node-local folders: one for the job, gone after it, and one that compiled extensions share over jobs. Folders of jobs
# that were killed are known by the host and process in `owner`: this host's, and no longer there. Where the site's
# scratch is a shared one, those of other hosts are their own matter.
make_scratch() {
  local base=${settings[scratch]}/muster-$UID host pid old others=''
  (umask 077 && mkdir -p "$base") || fail "cluster.scratch: cannot make $base"
  [[ -O $base && ! -L $base ]] || fail "cluster.scratch: $base belongs to somebody else"
  for old in "$base"/job-*; do
    [[ -d $old ]] || continue
    host='' pid=''
    [[ -f $old/owner ]] && read -r host pid <"$old/owner"
    if [[ $host == "$HOSTNAME" && ! -d /proc/$(number "$pid" 0) ]]; then rm -rf -- "$old"; else others=yes; fi
  done
  free_builds "$base/extensions" "$others"
  MUSTER_SCRATCH=$(scratch_folder)
  export MUSTER_SCRATCH
  (umask 077 && mkdir -p "$MUSTER_SCRATCH") || fail "cluster.scratch: cannot make $MUSTER_SCRATCH"
  printf '%s %s\n' "$HOSTNAME" "$$" >"$MUSTER_SCRATCH/owner"
  mkdir -p "$MUSTER_SCRATCH/tmp" "$MUSTER_SCRATCH/triton" "$MUSTER_SCRATCH/inductor" "$base/extensions"
  export TMPDIR=$MUSTER_SCRATCH/tmp TRITON_CACHE_DIR=$MUSTER_SCRATCH/triton TORCHINDUCTOR_CACHE_DIR=$MUSTER_SCRATCH/inductor
  export TORCH_EXTENSIONS_DIR=$base/extensions/${settings[extensions]//[^A-Za-z0-9._-]/-}
}

# free_builds FOLDER OTHERS: torch keeps a file `lock` while it compiles an extension, and waits without end for one that
# a killed job left. OTHERS says that other jobs are here, of which one may be compiling.
free_builds() {
  local lock now
  printf -v now '%(%s)T' -1
  for lock in "$1"/*/*/lock; do
    [[ -f $lock ]] || continue
    [[ -n $2 ]] && ((now - $(stat -c %Y "$lock" 2>/dev/null || printf '%s' "$now") < BUILD_S)) && continue
    rm -f "$lock"
  done
}

remove_scratch() {
  local folder
  folder=$(scratch_folder)
  [[ -d $folder && -O $folder ]] && rm -rf -- "$folder"
  return 0
}

# `module` is a function of login shells; a job's shell is none.
define_module() {
  local script
  declare -F module >/dev/null && return 0
  for script in "${LMOD_PKG:-/none}/init/bash" "${MODULESHOME:-/none}/init/bash" /etc/profile.d/lmod.sh /etc/profile.d/modules.sh; do
    # shellcheck disable=SC1090 # the site's own
    [[ -r $script ]] && source "$script" && break
  done
  return 0
}

# start_python VERB WORDS: the site's setup, then Python in this process's place. Ranks see none of Slurm's variables.
start_python() {
  local name
  local -a python
  if [[ -s $run/job/setup.sh ]]; then
    define_module
    set +u
    # shellcheck disable=SC1091 # the person's own
    source "$run/job/setup.sh" || fail "job/setup.sh ended with status $?"
    set -u
  fi
  while IFS= read -r name; do
    [[ $name == SLURM_CONF ]] || unset -v "$name"
  done < <(compgen -v SLURM; compgen -v SBATCH_; compgen -v SRUN_)
  mapfile -t python <"$run/job/python"
  exec "${python[@]}" -I -u "$run/code/muster.zip" "$1" "$run" "${@:2}"
}

# ask_fate: what Slurm has done with this job, in `fate`: running, requeued, preempted, time_limit, node_fail or
# cancelled; `gone` says whether it starts no more steps in it. While a job completes, its state is hidden; a requeue
# shows in its count of restarts, a preemption in its time, a node that failed in the reason.
ask_fate() {
  local line word=''
  fate=running gone=
  # An element by its array's id: the number of its own of one of them stands for the whole array.
  line=$(timeout 10 scontrol -o show job "$job_id" 2>/dev/null) || return 0
  [[ $line =~ \ JobState=RUNNING\  ]] || gone=yes
  if [[ $line =~ \ Restarts=([0-9]+)\  ]] && ((BASH_REMATCH[1] > $(number "${SLURM_RESTART_COUNT:-0}" 0))); then
    fate=requeued
  elif [[ $line =~ \ PreemptTime=[0-9] ]]; then
    fate=preempted
  elif [[ -n $gone ]]; then
    [[ -f $run/STOP ]] && IFS= read -r word <"$run/STOP"
    if [[ $word == time_limit ]] || { [[ $word != cancelled ]] && time_is_up; }; then
      fate=time_limit
    elif [[ $word != cancelled && $word != stopped && $line =~ \ (JobState=NODE_FAIL|Reason=NodeDown)\  ]]; then
      fate=node_fail
    else
      fate=cancelled
    fi
  fi
}

# learn_end: MUSTER_END_TIME, by this host's clock, for rank 0, which stops the run when it needs the time that is left.
# Asked as time left, since the controller's clock and zone may be others.
learn_end() {
  local left now
  left=$(timeout 30 squeue -h -o %L -j "$job_id" 2>/dev/null)
  [[ $left =~ ^(([0-9]+)-)?(([0-9]+):)?([0-9]+):([0-9]+)$ ]] || return 0
  printf -v now '%(%s)T' -1
  left=$((10#0${BASH_REMATCH[2]} * 86400 + 10#0${BASH_REMATCH[4]} * 3600 + 10#0${BASH_REMATCH[5]} * 60 + 10#0${BASH_REMATCH[6]}))
  export MUSTER_END_TIME=$((now + left))
}

# time_is_up: whether Slurm has ended the job for its time limit; a second or two are lost on the way.
time_is_up() {
  local now
  printf -v now '%(%s)T' -1
  [[ -n ${MUSTER_END_TIME:-} ]] && ((now + 3 >= MUSTER_END_TIME))
}

# on_signal WORD: a plain scancel, a preemption and the time limit may send the same signal; Slurm knows which it was.
on_signal() {
  local fate gone
  ask_fate
  case $fate in
    cancelled | preempted | time_limit) write_stop "$fate" ;;
    requeued | node_fail) write_stop preempted ;;
    *) write_stop "$1" ;;
  esac
}

# on_warning: Slurm's warning of the time limit, at some sites of a preemption too. Once rank 0 has measured a save it
# knows better when to stop.
on_warning() {
  local fate gone
  ask_fate
  if [[ $fate == running && -s $folder/lead && -n ${MUSTER_END_TIME:-} ]]; then
    say "the time limit is near; rank 0 stops $(<"$folder/lead") s before it"
  else
    on_signal time_limit
  fi
}

# end_deaf_step SRUN: over a cut link srun never hears how a node's task ended, and waits for it without end. Node 0's
# agent is the last to write its report; the others are gone or out of reach soon after.
end_deaf_step() {
  until [[ -e $folder/agents/node0.json ]]; do sleep 1; done
  sleep "$STEP_ENDS_S"
  say "srun does not hear of every node's end: it is ended"
  kill -KILL "$1"
}

# run_ranks VERB WORDS: one agent a node. srun runs in the background, since bash runs no trap while it waits for a foreground one.
run_ranks() {
  local pid watcher
  srun "${srun_arguments[@]}" --export=ALL --open-mode=append --output="${folder//%/%%}/logs/node%n-agent.log" \
    bash "$run/job/body.sh" node "$run" "$@" &
  pid=$!
  end_deaf_step "$pid" &
  watcher=$!
  while true; do
    wait "$pid"
    ranks_status=$?
    kill -0 "$pid" 2>/dev/null || break
  done
  wait "$pid" 2>/dev/null # a trap may have given the status of its signal above
  ranks_status=$?
  kill "$watcher" 2>/dev/null
  ((ranks_status == 127)) && ranks_status=1
  say "the ranks' step ended with status $ranks_status"
  ((ranks_status == 0)) || note_unreached
}

# decide: the word of train/node/decide.py, which runs in the ranks' environment on the first node. A controller that was
# away may not have heard yet that the ranks' step has ended, and then has no memory for another one.
decide() {
  local tries
  for ((tries = 0; tries < DECIDE_TRIES; tries++)); do
    sleep $((5 * tries))
    srun "${srun_arguments[@]}" --export=ALL --nodes=1 --ntasks=1 --nodelist="${hosts[0]}" --overlap \
      bash "$run/job/body.sh" node "$run" decide || say "the decision ended with status $?"
    [[ ! -f $folder/decision ]] || break
  done
  [[ -f $folder/decision ]] && IFS= read -r decision <"$folder/decision"
  return 0
}

# on_one_node: the data step is one task without GPUs, whatever the ranks ask for.
on_one_node() {
  local argument
  local -a kept=(--nodes=1 --ntasks=1)
  for argument in "${srun_arguments[@]}"; do
    case $argument in
      --nodes=* | --ntasks=* | --gres=* | --gpus-per-node=*) ;;
      *) kept+=("$argument") ;;
    esac
  done
  srun_arguments=("${kept[@]}")
}

clean_nodes() {
  timeout 60 srun --export=ALL --overlap --nodes="${#hosts[@]}" --ntasks-per-node=1 \
    bash "$run/job/body.sh" clean "$run" || say 'scratch folders may be left; the next job on the node removes them'
}

# withdraw_guess: an agent that is told to end takes it for a preemption; srun does the same to it when another node's
# agent is gone. Where Slurm knows of no preemption, the failures say what it was.
withdraw_guess() {
  local word=''
  [[ $fate == running && -f $run/STOP ]] && IFS= read -r word <"$run/STOP"
  [[ $word != preempted ]] || mv "$run/STOP" "$folder/STOP.guess"
}

# follow VERB WORDS: the ranks, the decision after them, and the next port where theirs was taken.
follow() {
  local try
  for ((try = 0; try < PORT_TRIES; try++)); do
    run_ranks "$@"
    decision=none
    ask_fate
    [[ $fate != cancelled ]] || { decision=cancelled && return; }
    [[ -z $gone ]] || note_down "$folder" # now: when the next attempt starts, Slurm would say how the nodes are then
    [[ $fate != requeued ]] || { decision=requeued && return; }
    [[ $1 == agent ]] || return
    withdraw_guess
    [[ -z $gone ]] || { decision=requeue && return; }
    decide
    [[ $decision == port ]] || return
    rm -f "$folder/decision"
    MUSTER_PORT=$(free_port "$((MUSTER_PORT + 1))")
    say "next port $MUSTER_PORT"
  done
}

# put_first HOST: this host is node 0. Slurm lists nodes by name and may number them in another order: by switches, by
# blocks.
put_first() {
  local host
  local -a others=()
  for host in "${hosts[@]}"; do
    [[ $host == "$1" ]] || others+=("$host")
  done
  ((${#others[@]} == ${#hosts[@]})) || hosts=("$1" ${others[@]+"${others[@]}"}) # bash 4.3 takes no empty array
}

# number_node: this node's place among the hosts of the batch script; Slurm's own number where they do not name it.
number_node() {
  local host place=0
  export MUSTER_NODE_RANK=${SLURM_NODEID:-0}
  for host in ${MUSTER_HOSTS:-}; do
    [[ $host != "${SLURMD_NODENAME:-}" ]] || MUSTER_NODE_RANK=$place
    place=$((place + 1))
  done
}

batch() {
  local early='' own=${SLURMD_NODENAME:-}
  # Until the attempt can answer them: each would end this shell.
  trap 'early=time_limit' USR1
  trap 'early=preempted' TERM
  trap 'early=stopped' USR2
  read_settings
  scrub 'SLURM_*'
  unset -v SLURM_EXPORT_ENV
  [[ -n ${SLURM_JOB_ID:-} ]] || fail 'batch is started by sbatch'
  job_id=$SLURM_JOB_ID
  [[ -n ${SLURM_ARRAY_JOB_ID:-} ]] && job_id=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
  export_environment
  [[ $verb != agent ]] || leave_to_others
  begin "slurm:$job_id" "$job_id"
  trap release_lock EXIT
  [[ $verb != agent ]] || require_budget
  say "attempt $attempt of $run; more in $folder/logs/job.log"
  exec >>"$folder/logs/job.log" 2>&1

  mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
  ((${#hosts[@]} > 0)) || fail "scontrol show hostnames $SLURM_JOB_NODELIST named no node"
  put_first "$own"
  printf '%s\n' "${hosts[@]}" >"$folder/hosts"
  note_earlier
  export MUSTER_NODES=${#hosts[@]} MUSTER_HOSTS="${hosts[*]}" MUSTER_HEAD=${hosts[0]}${settings[host_suffix]}
  # Nodes that are all this one machine have names that nobody resolves.
  [[ $(scontrol -o show node "${hosts[0]}" 2>/dev/null) =~ \ NodeAddr=(127\.[0-9.]+)\  ]] && MUSTER_HEAD=${BASH_REMATCH[1]}
  choose_port "$(($(number "$SLURM_JOB_ID" 0) + attempt))"
  mapfile -t srun_arguments <"$run/job/srun"
  [[ $1 != prepare ]] || on_one_node
  say "job $job_id attempt $attempt on $MUSTER_NODES nodes: $MUSTER_HOSTS"
  learn_end
  say "head $MUSTER_HEAD port $MUSTER_PORT; continuation=${settings[continuation]} max_requeues=${settings[max_requeues]}"
  say "srun$(printf ' %q' "${srun_arguments[@]}")"
  say "variables: $(compgen -e | tr '\n' ' ')"

  trap on_warning USR1
  trap 'on_signal preempted' TERM
  trap 'write_stop stopped' USR2 # a poke: on a shared folder the person's own STOP may show here a minute late
  case $early in
    stopped) write_stop stopped ;;
    ?*) on_signal "$early" ;;
  esac
  hold_next & # the ranks do not wait for Slurm's controller
  holder=$!
  follow "$@"
  while kill -0 "$holder" 2>/dev/null; do wait "$holder"; done
  trap '' USR1 USR2 TERM
  say "decision: $decision"
  ((ranks_status != 0)) && ranks_status=1
  if [[ -n $gone ]]; then MUSTER_NODE_RANK=0 remove_scratch; else clean_nodes; fi
  case $decision in
    cancelled)
      write_cancelled
      drop_next
      note_down "$folder"
      exit 1
      ;;
    requeued) exit 1 ;;
    requeue) again "$ranks_status" ;;
  esac
  after_end
  [[ $1 != agent || $decision != none ]] || ranks_status=1
  exit "$ranks_status"
}

node() {
  number_node
  read_settings
  if [[ $MUSTER_NODE_RANK != "${SLURM_NODEID:-0}" ]]; then # srun has named the log by Slurm's own number
    exec >>"$run/attempts/$MUSTER_ATTEMPT/logs/node$MUSTER_NODE_RANK-agent.log" 2>&1
  fi
  make_scratch
  start_python "$@"
}

clean() {
  number_node
  read_settings
  remove_scratch
}

local_run() {
  read_settings
  scrub WANDB_API_KEY HF_TOKEN
  export_environment
  begin "local:$$" "$$"
  export MUSTER_NODES=1 MUSTER_NODE_RANK=0 MUSTER_HEAD=127.0.0.1 MUSTER_HOSTS=$HOSTNAME
  choose_port "$$"
  make_scratch
  say "attempt $attempt of $run; more in $folder/logs"
  exec >>"$folder/logs/node0-agent.log" 2>&1
  {
    say "attempt $attempt on $HOSTNAME, port $MUSTER_PORT"
    say "variables: $(compgen -e | tr '\n' ' ')"
  } >>"$folder/logs/job.log"
  # The pipe closes when the agent and its ranks are gone, however they went; then what they leave behind goes.
  # shellcheck disable=SC2034 # only held open
  exec {alive}> >(
    trap '' INT TERM HUP
    exec >/dev/null 2>&1
    cat
    cd / && remove_scratch && release_lock
  )
  start_python "$@"
}

# shellcheck source=slurm/follow.sh
source "${BASH_SOURCE[0]%/*}/follow.sh"

main() {
  local mode=${1:-}
  run=${2:-}
  [[ $run == /* && -d $run/job ]] || fail "usage: body.sh batch|node|clean|local RUN, the absolute path of a run folder"
  unset -v CDPATH BASH_ENV ENV HOSTNAME
  IFS= read -r HOSTNAME </proc/sys/kernel/hostname # a step inherits that of the first node
  (($# > 2)) || set -- "$@" agent
  [[ $3 =~ ^[a-z]+$ ]] || fail "unknown verb $3"
  verb=$3
  case $mode in
    batch) batch "${@:3}" ;;
    node) node "${@:3}" ;;
    clean) clean ;;
    local) local_run "${@:3}" ;;
    *) fail "unknown mode $mode" ;;
  esac
}

main "$@"
