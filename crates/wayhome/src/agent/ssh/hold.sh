# wayhome-hold: what the agent runs at the gateway over its ssh link.
#
# It says who we are there, answers heartbeats, looks who holds our ports, and ends a stale
# session that still does. It reads lines and answers each with one line. POSIX sh and /proc only;
# `ss` is used where it is there. Its arguments are the link's ports.
#
#   (greeting)              wayhome-hold 1 pid=P start=S boot=B uid=U user=NAME gate=0|1 ports=A,B
#                           P is the sshd of this connection, S its start in clock ticks; `-` if unknown
#   ping N                  pong N
#   look PORT               look PORT free | self AT | sshd PID START HOW BEAT AT
#                             | oneof PID:START,PID:START HOW AT | foreign UID AT
#                             | program PID COMMAND AT | unknown REASON [AT]
#                           BEAT: what the session's sshd has read so far, or where that is hidden
#                           what its hold has: it grows while the other end speaks; or `-`
#                           AT: the addresses listened on, of 127.0.0.1,::1,0.0.0.0,::,other
#   release PORT PID START  release PORT released | free | refused REASON | held REASON
#   quit                    (ends)
#   anything else           error unknown-request
#
# While a release waits (up to about 1.5 s) nothing else is answered. Ask for forwards after the
# greeting only: what listens before it is taken to be someone else's.
#
# How the holder of a port is told, best evidence first:
#   fd      its descriptors can be read (root), and the listening socket is among them
#   cgroup  the socket was made in the control group of this one session (systemd logins)
#   mark    a process `wayhome-hold PORT` or `wayhome-gate PORT` runs under it
#   only    it is the one session of ours there is, and it never ran a command (`ssh -N`)
# Where these leave it open, those that may be it are named (`oneof`), and only who knows one of
# them as its own may have it ended:
#   marks   several sessions carry the mark for this port
#   command it is the one session of ours there is; its mark is gone, or somebody is at work there
# A plain user cannot read the descriptors of its own sshd. What was considered and is not used,
# since it does not decide: socket inodes are handed out to each CPU in batches and show no order
# in time; the kernel keeps no age of a listener; the connection's own socket belongs to root.
# Where in doubt the answer is `unknown`.

# Words are split on purpose all through, with globbing off; functions return by variables.
# shellcheck shell=sh disable=SC2086,SC2046,SC2034,SC2154

if [ "${WAYHOME_GATE-}" != 1 ]; then WAYHOME_GATE=0; fi
LC_ALL=C PATH=${PATH:-/usr/bin}:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
umask 077
set -f
set +e
newline='
'
blanks=" 	$newline"
IFS=$blanks

serve() {
  ports=
  for port; do
    is_port "$port" || { echo "wayhome-hold: \`$port\` is not a port" >&2; exit 1; }
    ports="$ports $port"
  done
  if ! uid=$(id -u) || ! user=$(id -un); then
    echo "wayhome-hold: \`id\` names no user" >&2
    exit 1
  fi

  own='' own_start=- boot=-
  if own=$(sshd_above $$) && is_session "$own"; then
    own_start=$start
    { IFS= read -r boot; } 2>/dev/null </proc/sys/kernel/random/boot_id || boot=-
  else
    own=''
  fi
  # The agent asks for its forwards after this greeting, so what listens by now is not ours.
  earlier=
  for port in $ports; do
    listeners "$port" && earlier="$earlier$inodes"
  done
  # What the account's start files print may not have ended its last line.
  say
  say "wayhome-hold 1 pid=${own:--} start=$own_start boot=$boot uid=$uid user=$user" \
    "gate=$WAYHOME_GATE ports=$(echo $ports | tr ' ' ',')" || exit 0

  while IFS= read -r line; do
    reply=
    if [ ${#line} -le 80 ]; then
      # Words are split, never expanded: globbing is off and nothing here is evaluated.
      answer $line
    fi
    say "${reply:-error unknown-request}" || exit 0
  done
  exit 0
}

say() {
  printf '%s\n' "$*"
}

answer() {
  case $1:$# in
    ping:2) if is_number "$2"; then reply="pong $2"; fi ;;
    quit:1) exit 0 ;;
    look:2)
      is_port "$2" || return
      if is_ours "$2"; then look "$2"; reply="look $2 $found"; else reply="look $2 unknown not-my-port"; fi
      ;;
    release:4)
      is_port "$2" && is_number "$3" && is_number "$4" || return
      if is_ours "$2"; then release "$2" "$3" "$4"; else outcome='refused not-my-port'; fi
      reply="release $2 $outcome"
      ;;
  esac
}

# look PORT: sets found, one verdict on who holds it.
look() {
  if ! listeners "$1"; then found='unknown no-proc'
  elif [ -z "$inode" ]; then found=free
  elif [ "$owner" != "$uid" ]; then found="foreign $owner $kinds"
  else
    holder "$1" "$inode"
    case $verdict in
      sshd\ *) beat_of $verdict; found="$verdict $beat $kinds" ;;
      *) found="$verdict $kinds" ;;
    esac
  fi
}

# beat_of VERDICT...: sets beat for the session that a verdict names.
beat_of() {
  beat=-
  if has_read "$2"; then return; fi
  for shell in $shells; do
    if is_mine "$shell" && bears "$shell" - && [ "$(sshd_above "$shell")" = "$2" ]; then
      if has_read "$shell"; then return; fi
    fi
  done
}

# has_read PID: sets beat to the bytes that the process has read, if that may be known.
has_read() {
  while read -r key value; do
    if [ "$key" = rchar: ] && is_number "$value"; then
      beat=$value
      return
    fi
  done 2>/dev/null <"/proc/$1/io"
  return 1
}

# release PORT PID START: sets outcome. The agent names a session that it knows as its own; all
# that can be verified is verified again here, now, whatever an earlier look said.
release() {
  listeners "$1" || { outcome='refused no-proc'; return; }
  [ -n "$inode" ] || { outcome=free; return; }
  [ "$owner" = "$uid" ] || { outcome="refused foreign-uid-$owner"; return; }
  [ -n "$own" ] || { outcome="refused $(why_blind)"; return; }
  [ "$2" != "$own" ] || { outcome='refused own-connection'; return; }
  is_session "$2" "$3" || { outcome="refused $reason"; return; }
  socket=$inode
  holder "$1" "$socket"
  case $verdict in
    "sshd $2 $3 "*) ;;
    self) outcome='refused own-connection'; return ;;
    sshd\ *\ fd | sshd\ *\ cgroup | program\ *) outcome='refused not-the-holder'; return ;;
    *)
      # Nothing proves who holds it. Enough is a mark for this port; or, where the mark is gone
      # with the command that bore it, that no other session is left that could be the holder.
      case " $marked " in
        *" $2:$3 "*) ;;
        *)
          if [ "$rest" != " $2:$3" ] || [ -n "$marked" ] || [ -z "$not_own" ]; then
            outcome='refused not-known-as-the-holder'
            return
          fi
          ;;
      esac
      ;;
  esac
  kill -TERM "$2" 2>/dev/null || { outcome='refused cannot-signal'; return; }
  waited=0 killed='' deadline=150 # hundredths of a second
  while [ $waited -lt $deadline ]; do
    if ! is_session "$2" "$3"; then
      listeners "$1"
      case $inodes in
        *" $socket "*) ;;
        *) outcome=released; return ;;
      esac
      # What has ended holds nothing: only a process that it left behind could, for a moment.
      if [ $deadline = 150 ]; then deadline=$((waited + 20)); fi
    elif [ $waited -ge 50 ] && [ -z "$killed" ]; then
      killed=1
      kill -KILL "$2" 2>/dev/null
    fi
    nap
  done
  if is_session "$2" "$3"; then outcome='held session-did-not-end'; else outcome='held by-another'; fi
}

nap() {
  if sleep 0.03 2>/dev/null; then
    waited=$((waited + 5)) # with the time that looking takes
  else # a sleep that knows whole seconds only
    sleep 1
    waited=$((waited + 100))
  fi
}

# listeners PORT: sets kinds (all addresses listened on), inodes (of all), and of the listener
# that stands most in the way of 127.0.0.1 the inode and the owner. Fails where nothing can tell.
listeners() {
  kinds='' inodes=' ' inode='' owner='' rank=9
  [ -r /proc/net/tcp ] || return 1
  hex=$(printf '%04X' "$1")
  while read -r _ address _ _ _ _ _ by _ number _; do
    [ -n "$number" ] || continue
    case ${address%:*} in
      0100007F | 7F000001 | *FFFF00000100007F | *0000FFFF7F000001) kind=127.0.0.1 way=1 ;;
      00000000) kind=0.0.0.0 way=2 ;;
      00000000000000000000000000000000) kind=:: way=3 ;;
      00000000000000000000000001000000 | 00000000000000000000000000000001) kind=::1 way=4 ;;
      *) kind=other way=5 ;;
    esac
    case ",$kinds," in *",$kind,"*) ;; *) kinds=${kinds:+$kinds,}$kind ;; esac
    inodes="$inodes$number "
    # Someone else's listener on the same address, or on all of them, outweighs ours.
    if [ "$by" != "$uid" ] && [ $way -le 3 ]; then way=0; fi
    if [ $way -lt $rank ]; then rank=$way inode=$number owner=$by; fi
  done <<END
$(sed -n "/: [0-9A-F]*:$hex [0-9A-F]*:0000 0A /p" /proc/net/tcp /proc/net/tcp6 2>/dev/null)
END
}

# holder PORT INODE: sets verdict; and for release: marked and rest, the sessions (as PID:START)
# that may be the holder, with and without a mark for this port, and not_own, if we are not.
holder() {
  marked='' rest='' not_own=''
  case $earlier in *" $2 "*) not_own=1 ;; esac
  sessions

  possible=
  for each in $all; do
    pid=${each%%:*}
    fds=$(ls -l "/proc/$pid/fd/" 2>/dev/null)
    case "$fds$newline" in
      *" -> socket:[$2]$newline"*)
        if [ "$pid" = "$own" ]; then verdict=self; else verdict="sshd $pid ${each#*:} fd"; fi
        return
        ;;
      *' -> '*) ;; # it can be read and has it not
      *) possible="$possible $each" ;;
    esac
  done

  # What is left cannot be read. A program of ours that can be read is seen here.
  if program "$2"; then return; fi
  if [ -z "$own" ]; then verdict="unknown $(why_blind)"; return; fi
  if [ -n "$not_own" ]; then without_own; fi

  by_cgroup "$2"
  if [ -z "$possible" ]; then verdict='unknown no-session-found'; return; fi
  marks "$1"
  me=
  for each in $possible; do
    case " $elsewhere " in *" ${each%%:*} "*) continue ;; esac
    if [ "${each%%:*}" = "$own" ]; then me=1; continue; fi
    case " $here " in
      *" ${each%%:*} "*) marked="$marked $each" ;;
      *) rest="$rest $each" ;;
    esac
  done

  set -- $marked $rest
  if [ -n "$decided" ] && [ $# = 1 ]; then verdict="sshd ${1%%:*} ${1#*:} cgroup"
  elif [ -n "$me" ]; then # it came after our greeting: our own forward, unless another's
    if [ $# = 0 ]; then verdict=self; else verdict='unknown ambiguous'; fi
  elif [ $# = 0 ]; then verdict='unknown held-for-another-port'
  elif [ -n "$marked" ]; then
    set -- $marked
    if [ $# = 1 ]; then verdict="sshd ${1%%:*} ${1#*:} mark"
    else verdict="oneof $(echo $marked | tr ' ' ',') marks"
    fi
  elif [ $# -gt 1 ]; then verdict='unknown ambiguous'
  else
    title "${1%%:*}"
    case $title in
      "sshd: $user" | "sshd-session: $user") verdict="sshd ${1%%:*} ${1#*:} only" ;;
      *) verdict="oneof $1 command" ;;
    esac
  fi
}

without_own() {
  set -- $possible
  possible=
  for each; do
    if [ "${each%%:*}" != "$own" ]; then possible="$possible $each"; fi
  done
}

# sessions: sets all (our user's ssh sessions, as PID:START) and shells (what may bear a mark).
sessions() {
  all='' shells=''
  set +f
  set -- /proc/[0-9]*/stat
  set -f
  while IFS= read -r line; do
    pid=${line%% *}
    case $line in
      *'(sshd)'* | *'(sshd-session)'*)
        is_session "$pid" && all="$all $pid:$start"
        ;;
      *) shells="$shells $pid" ;;
    esac
  done <<END
$(cat "$@" 2>/dev/null | grep -E '^[0-9]+ \((sshd|sshd-session|sh|wayhome-gate)\) ')
END
}

# program INODE: whether a process whose descriptors we can read has it; sets verdict.
program() {
  set +f
  set -- "$1" /proc/[0-9]*/fd/
  set -f
  socket_of=$1
  shift
  # shellcheck disable=SC2012 # nothing else in POSIX reads where a link points
  pid=$(ls -l "$@" 2>/dev/null | awk -v s="socket:[$socket_of]" '
    /^\/proc\/[0-9]+\/fd\/:$/ { split($0, part, "/"); pid = part[3] }
    $NF == s { print pid; exit }')
  is_number "$pid" && of_stat "$pid" || return 1
  verdict="program $pid $(printf %s "$comm" | tr -c 'A-Za-z0-9._+-' _)"
}

# by_cgroup INODE: narrows possible to the sessions in the control group that made the socket;
# sets decided if exactly one is there. Where `ss` may not look up a path, it shows a number.
by_cgroup() {
  decided=
  command -v ss >/dev/null 2>&1 || return
  group=$(ss -Hlnte 2>/dev/null | sed -n "s/.* ino:$1 .*cgroup:\([^ ]*\).*/\1/p")
  case $group in
    unreachable:*)
      group=${group#unreachable:}
      case $group in '' | *[!0-9a-f]*) return ;; esac
      [ ${#group} -le 15 ] || return
      group=$((0x$group))
      ;;
    /*) ;;
    *) return ;;
  esac
  root=$(sed -n 's/^[^ ]* \(\/[^ ]*\) cgroup2 .*/\1/p' /proc/mounts 2>/dev/null | sed 1q)
  [ -n "$root" ] || return
  inside=' '
  for each in $all; do
    path=$(sed -n 's/^0:://p' "/proc/${each%%:*}/cgroup" 2>/dev/null)
    case $group in
      /*) [ "$path" = "$group" ] || continue ;;
      *)
        set -- $(ls -di "$root$path" 2>/dev/null)
        [ "${1-}" = "$group" ] || continue
        ;;
    esac
    inside="$inside$each "
  done
  [ "$inside" != ' ' ] || return
  set -- $possible
  possible=
  for each; do
    case $inside in *" $each "*) possible="$possible $each" ;; esac
  done
  # Where logins get no groups of their own, all sessions are in this one: that tells nothing.
  set -- $inside
  if [ $# = 1 ] && [ -n "$possible" ]; then decided=1; fi
}

# marks PORT: sets here (pids of sessions marked for it) and elsewhere (marked, but not for it).
marks() {
  here='' elsewhere=''
  for shell in $shells; do
    is_mine "$shell" || continue
    bears "$shell" "$1" || continue
    above=$(sshd_above "$shell") || continue
    if [ -n "$for_it" ]; then here="$here $above"; else elsewhere="$elsewhere $above"; fi
  done
  set -- $elsewhere
  elsewhere=
  for each; do
    case " $here " in *" $each "*) ;; *) elsewhere="$elsewhere $each" ;; esac
  done
}

# bears PID PORT: whether the process bears a mark at all; for_it if PORT is among its ports.
bears() {
  wanted=$2 for_it=
  IFS=$newline
  set -- $(tr '\0' '\n' 2>/dev/null <"/proc/$1/cmdline")
  IFS=$blanks
  while [ $# -gt 0 ]; do
    case $1 in wayhome-hold | wayhome-gate | */wayhome-gate) break ;; esac
    shift
  done
  [ $# -gt 1 ] || return 1
  shift
  for each; do
    if [ "$each" = "$wanted" ]; then for_it=1; fi
  done
}

# is_session PID [START]: a living ssh session of our user; never the daemon that listens for
# ssh, a root monitor (`[priv]`) or anyone else's. Sets start, or the reason why not.
is_session() {
  reason=no-such-process
  of_stat "$1" && [ "$state" != Z ] || return 1
  reason=started-at-another-time
  [ -z "${2-}" ] || [ "$2" = "$start" ] || return 1
  reason=not-an-ssh-session
  case $comm in sshd | sshd-session) ;; *) return 1 ;; esac
  reason=not-our-user
  is_mine "$1" || return 1
  reason=not-an-ssh-session
  title "$1"
  case $title in
    "sshd: $user" | "sshd: $user@"* | "sshd-session: $user" | "sshd-session: $user@"*) ;;
    *) return 1 ;;
  esac
}

# is_mine PID: real, effective, saved and file system user are all ours.
is_mine() {
  while read -r key a b c d _; do
    [ "$key" = Uid: ] || continue
    [ "$a $b $c $d" = "$uid $uid $uid $uid" ]
    return
  done 2>/dev/null <"/proc/$1/status"
  return 1
}

title() {
  title=$(tr '\0' '\n' 2>/dev/null <"/proc/$1/cmdline")
}

# sshd_above PID: prints the nearest ancestor that is an sshd. A login shell or two may stand
# between: not every sh replaces itself by the last command it runs.
sshd_above() {
  parent=$1
  for step in 1 2 3 4 5 6 7 8 9 10 11 12; do
    at=$parent
    of_stat "$at" || return 1
    case $comm in sshd | sshd-session) echo "$at"; return ;; esac
  done
  return 1
}

# of_stat PID: sets comm, state, parent and start from a line whose second field may hold
# anything, blanks and parentheses too; what follows the last one is numbers.
of_stat() {
  { IFS= read -r stat; } 2>/dev/null <"/proc/$1/stat" || return 1
  comm=${stat#*\(}
  comm=${comm%)*}
  set -- ${stat##*) }
  [ $# -ge 20 ] || return 1
  state=$1 parent=$2
  shift 19
  start=$1
}

# why_blind: why our own sshd cannot be told, without which nothing is safe to end.
why_blind() {
  if grep -q '^[^ ]* /proc proc .*hidepid=[^0o]' /proc/mounts 2>/dev/null; then echo hidepid
  else echo own-sshd-not-found
  fi
}

is_ours() {
  case " $ports " in *" $1 "*) ;; *) return 1 ;; esac
}

is_port() {
  case $1 in '' | 0* | *[!0-9]*) return 1 ;; esac
  [ ${#1} -le 5 ] && [ "$1" -le 65535 ]
}

is_number() {
  case $1 in '' | *[!0-9]*) return 1 ;; esac
  [ ${#1} -le 15 ]
}

serve "$@"
