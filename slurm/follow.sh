#!/bin/bash
# What comes before and after the attempts of a run on Slurm: budgets, the queue again, the next job of a chain. Functions
# of body.sh, into whose text slurm/scripts.py puts them. Whether a run goes on is decided in train/node/decide.py.
# shellcheck disable=SC2154 # run, settings, verb, attempt, folder, job_id are body.sh's

readonly CONTROLLER_TRIES=8 # 180 s of patience with a controller that is away

# began NUMBER: the job.json of that attempt at training; nothing where it only prepared or exported.
began() {
  local record=''
  [[ -f $run/attempts/$1/job.json ]] && record=$(<"$run/attempts/$1/job.json")
  [[ $record == *'"verb": "agent"'* ]] && printf '%s' "$record"
}

# newest_training: the number of the newest attempt at training; nothing where there was none.
newest_training() {
  local number=0
  while [[ -d $run/attempts/$number ]]; do number=$((number + 1)); done
  while ((--number >= 0)); do
    [[ -z $(began "$number") ]] || { printf '%s' "$number" && return; }
  done
}

# first_of_series: the attempt that a person started, from which on the run has gone on by itself up to now. A
# requeued job and a job of a chain go on with the series of the attempt before.
first_of_series() {
  local newest
  newest=$(newest_training)
  if [[ -n $newest ]] && { (($(number "${SLURM_RESTART_COUNT:-0}" 0) > 0)) || [[ -n $(sent_after) ]]; } &&
    [[ $(began "$newest") =~ \"since\":\ ([0-9]+) ]]; then
    printf '%s' "${BASH_REMATCH[1]}"
  else
    printf '%s' "$attempt"
  fi
}

# require_budget: Slurm itself may have put the job back, or a chain goes on after a job that nobody could decide upon.
require_budget() {
  local earlier turns=0
  for ((earlier = since; earlier < attempt; earlier++)); do
    [[ -n $(began "$earlier") ]] && turns=$((turns + 1))
  done
  ((turns <= $(number "${settings[max_requeues]}" 20))) && return 0
  write_outcome failed "the budget of max_requeues=${settings[max_requeues]} is used up"
  say "attempt $attempt does not start: max_requeues=${settings[max_requeues]} is used up; muster resume goes on"
  exit 1
}

# write_outcome STATE REASON: where no rank and no decision is left to say how the attempt stands.
write_outcome() {
  local step=0 saved
  for saved in "$run"/checkpoints/step-*; do
    [[ -d $saved ]] && step=$(number "${saved##*-}" "$step")
  done
  printf '{"state": "%s", "reason": "%s", "step": %d, "attempt": %d, "time": %(%s)T}\n' \
    "$1" "$2" "$step" "$attempt" -1 >"$run/.outcome.$$" && mv "$run/.outcome.$$" "$run/outcome.json"
}

# write_cancelled: Slurm has ended the job's steps, so that only this shell can still say how the attempt stands.
write_cancelled() {
  local outcome=''
  [[ -f $run/outcome.json ]] && outcome=$(<"$run/outcome.json")
  [[ $outcome == *"\"attempt\": $attempt,"* && $outcome != *'"state": "preempted"'* ]] && return 0
  write_outcome cancelled 'cancelled while it ran'
}

# away WORDS: whether a command of Slurm's failed because the controller is not there now; asking again helps.
away() {
  [[ -z $1 || $1 == *'contact slurm controller'* || $1 == *'timed out'* || $1 == *'onnection refused'* ||
    $1 == *'not connected'* || $1 == *'in standby'* || $1 == *'Zero Bytes'* || $1 == *'temporarily unable'* ]]
}

# outside COMMAND…: a command of Slurm's without the variables that describe this job: sbatch would hand them on.
outside() (
  while IFS= read -r name; do
    [[ $name == SLURM_CONF ]] || unset -v "$name"
  done < <(compgen -v SLURM_; compgen -v SRUN_)
  exec timeout 60 "$@"
)

# note_submission EVENT PURPOSE JOB: as launcher/runs/submissions.py does; JOB may be empty.
note_submission() {
  printf '{"time": %(%s)T, "event": "%s", "purpose": "%s", "job_id": "%s", "after": "%s"}\n' \
    -1 "$1" "$2" "$3" "$job_id" >>"$run/submissions.jsonl"
}

# sent_after: the job that this one was sent to go on after; nothing where a person sent it.
sent_after() {
  local line
  [[ -f $run/submissions.jsonl && -n ${job_id:-} ]] || return 0
  while IFS= read -r line; do
    [[ $line == *'"event": "sent"'*"\"job_id\": \"$job_id\""* && $line =~ \"after\":\ \"([0-9_]+)\" ]] && printf '%s' "${BASH_REMATCH[1]}"
  done <"$run/submissions.jsonl"
}

# next_job: the job that was sent to go on after this one; nothing where there is none.
next_job() {
  local line
  [[ -f $run/submissions.jsonl ]] || return 0
  while IFS= read -r line; do
    [[ $line == *'"event": "sent", "purpose": "train"'*"\"after\": \"$job_id\""* && $line =~ \"job_id\":\ \"([0-9]+)\" ]] && printf '%s' "${BASH_REMATCH[1]}"
  done <"$run/submissions.jsonl"
}

# find_sent SCRIPT: a job of ours with this script that nobody has noted: sbatch sent it and its answer was lost. Fails
# where squeue gives no answer.
find_sent() {
  local id command queue known=''
  queue=$(outside squeue -h --me -o '%i %o' 2>/dev/null) || return
  [[ -f $run/submissions.jsonl ]] && known=$(<"$run/submissions.jsonl")
  while read -r id command; do
    [[ $command == "$1" && $id =~ ^[0-9]+$ && $id != "$SLURM_JOB_ID" && $known != *"\"job_id\": \"$id\""* ]] && printf '%s' "$id" && return
  done <<<"$queue"
  return 0
}

# unanswered PURPOSE: whether nobody knows what came of the last submission.
unanswered() {
  local line last=''
  [[ -f $run/submissions.jsonl ]] || return
  while IFS= read -r line; do
    [[ $line != *"\"purpose\": \"$1\""* ]] || last=$line
  done <"$run/submissions.jsonl"
  [[ $last == *'"event": "sending"'* ]]
}

# send_next PURPOSE SCRIPT AFTER: a further job of the run, which waits for the end of this one; exactly one. What may be
# in the queue already is not sent again before squeue has said that it is not there.
send_next() {
  local tries id='' asked=yes
  ! unanswered "$1" || asked=''
  note_submission sending "$1" ''
  for ((tries = 0; tries < CONTROLLER_TRIES; tries++)); do
    [[ -n $asked ]] || { id=$(find_sent "$2") && asked=yes; }
    [[ -z $id ]] || break
    if [[ -n $asked ]]; then
      id=$(outside sbatch --parsable --dependency="$3:$job_id" --kill-on-invalid-dep=yes "$2" 2>"$folder/.said")
      [[ $id =~ ^[0-9]+ ]] && id=${BASH_REMATCH[0]} && break
      id=''
      away "$(<"$folder/.said")" || break
      asked=''
    fi
    sleep $((5 + 5 * tries))
  done
  [[ -n $id || -n $asked ]] || id=$(find_sent "$2") || id=''
  if [[ -n $id ]]; then
    note_submission sent "$1" "$id"
    say "job $id waits for the end of this one ($1)"
  elif [[ -n $asked ]]; then
    note_submission refused "$1" ''
    say "sbatch took no job after this one ($1): $(<"$folder/.said")"
  else
    say "Slurm does not say whether it took a job after this one ($1)"
  fi
  rm -f "$folder/.said"
}

# hold_next, drop_next: with cluster.continuation=chain the next job waits from the start of each attempt, so that it is
# there however this one ends: cancelled by a preemption, its head node gone, out of time.
hold_next() {
  [[ ${settings[continuation]} == chain && $verb == agent ]] || return 0
  [[ -n $(next_job) ]] || send_next train "$run/job.sbatch" afterany
}

drop_next() {
  local next
  next=$(next_job)
  [[ -n $next ]] || return 0
  say "job $next is not needed"
  scancel "$next" || say "scancel $next failed; it will find nothing to do"
}

# leave_to_others: a job of a chain does nothing where the one before it came to an end or somebody else went on.
leave_to_others() {
  local before newest decision='' record
  before=$(sent_after)
  newest=$(newest_training)
  [[ -n $before && -n $newest ]] || return 0
  [[ $(began "$newest") == *"\"job_id\": \"$before\""* ]] || { say "nothing to do: attempt $newest is not of job $before" && exit 0; }
  [[ -f $run/attempts/$newest/decision ]] && IFS= read -r decision <"$run/attempts/$newest/decision"
  [[ $decision != requeue ]] || return 0
  [[ -z $decision ]] || { say "nothing to do: the run has ended" && exit 0; }
  record=$(timeout 60 scontrol -o show job "$before" 2>/dev/null)
  if [[ $record =~ \ JobState=CANCELLED ]] && ! [[ $record =~ \ PreemptTime=[0-9] ]]; then
    attempt=$newest
    write_cancelled
    say "nothing to do: job $before was cancelled"
    exit 0
  fi
}

# note_down FOLDER: the nodes of an attempt that Slurm has lost since it began, one a line with its word on them: down,
# without an answer, or with a daemon that has started since. Asked until Slurm has answered: then the file is
# there, empty where none is lost.
note_down() {
  local line name state began reason told=''
  local -a lost=()
  [[ -f $1/hosts && -f $1/job.json && ! -e $1/down ]] || return 0
  [[ $(<"$1/job.json") =~ \"time\":\ ([0-9]+) ]] && printf -v began '%(%Y-%m-%dT%H:%M:%S)T' "${BASH_REMATCH[1]}"
  while IFS= read -r line; do
    [[ $line =~ ^NodeName=([^ ]+).*\ State=([^ ]+) ]] || continue
    name=${BASH_REMATCH[1]} state=${BASH_REMATCH[2]} reason='' told=yes
    [[ $line =~ \ Reason=(.*)\ \[ ]] && reason=" ${BASH_REMATCH[1]}"
    if [[ $state =~ (^|\+)(DOWN|FAIL|NOT_RESPONDING)|\* ]]; then # not POWERED_DOWN
      lost+=("$name $state$reason")
    elif [[ $line =~ \ SlurmdStartTime=([0-9T:-]+) && ${BASH_REMATCH[1]} > $began ]]; then
      lost+=("$name slurmd started again at ${BASH_REMATCH[1]}")
    fi
  done < <(SLURM_TIME_FORMAT=standard timeout 10 scontrol -o show node "$(paste -sd, "$1/hosts")" 2>/dev/null)
  [[ -z $told ]] || { ((${#lost[@]} == 0)) || printf '%s\n' "${lost[@]}"; } >"$1/down"
}

# note_unreached: nodes on which srun could not start the step, over a cut link for one, count as lost as well.
note_unreached() {
  local line
  while IFS= read -r line; do
    [[ $line =~ Task\ launch\ for\ StepId=[^\ ]+\ failed\ on\ node\ ([^:\ ]+):\ (.*) ]] &&
      printf '%s not reached by %s: %s\n' "${BASH_REMATCH[1]}" "${hosts[0]}" "${BASH_REMATCH[2]}"
  done <"$folder/logs/job.log" | sort -u >"$folder/.down"
  if [[ -s $folder/.down ]]; then mv "$folder/.down" "$folder/down"; else rm -f "$folder/.down"; fi
}

# note_earlier: an attempt after which nothing was decided may have lost a node: that of its own batch script, which then
# could not ask.
note_earlier() {
  local earlier=$run/attempts/$((attempt - 1))
  [[ -e $earlier/decision ]] || note_down "$earlier"
}

# leave_out JOB: the nodes that the decision names join those that the job leaves out already. Slurm lets an owner change
# that list while the job waits: after the requeue.
leave_out() {
  local list=''
  [[ -s $folder/leave_out ]] && IFS= read -r list <"$folder/leave_out"
  [[ -n $list ]] || return 0
  [[ $(timeout 30 scontrol -o show job "$1" 2>/dev/null) =~ \ ExcNodeList=([^ \(]+) ]] && list=${BASH_REMATCH[1]},$list
  if timeout 30 scontrol update JobId="$1" ExcNodeList="$list"; then
    say "job $1 leaves out $list"
  else
    say "job $1 may get these nodes again: $list"
  fi
}

# again: the run goes on in a further attempt. A refusal is no reason to lose the run: a chain's job may wait already.
again() {
  local tries said
  case ${settings[continuation]} in
    none) say 'not requeued: cluster.continuation=none' && exit "$1" ;;
    chain)
      hold_next
      [[ -n $(next_job) ]] || fail 'no further job could be sent; muster resume goes on'
      leave_out "$(next_job)"
      exit "$1"
      ;;
  esac
  for ((tries = 0; tries < CONTROLLER_TRIES; tries++)); do
    say "requeue $job_id"
    if said=$(timeout 60 scontrol requeue "$job_id" 2>&1); then
      leave_out "$job_id"
      exit 0
    fi
    say "scontrol requeue: $said"
    away "$said" || break
    sleep $((5 + 5 * tries))
  done
  fail "scontrol requeue $job_id was refused; cluster.continuation=chain needs none"
}

# after_end: what follows a run that goes on no more. In a chain nobody knew before which job would be the last one.
after_end() {
  local outcome=''
  drop_next
  [[ ${settings[export]} == after && $verb == agent && -f $run/outcome.json ]] || return 0
  outcome=$(<"$run/outcome.json")
  [[ $outcome == *'"state": "done"'* && $outcome == *"\"attempt\": $attempt,"* ]] || return 0
  send_next export "$run/job/export.sbatch" afterok
}
