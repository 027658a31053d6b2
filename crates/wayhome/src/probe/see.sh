# wayhome-see: what `wayhome status --ssh` asks of a gateway, once, beside the hold.
#
# It prints `wayhome-see 1` and then lines of `key value`, each only if it can be known. It changes
# nothing. POSIX sh and /proc. Its arguments: the process that holds the port, if it is known.
#
#   since SECONDS     how long ago that process started
#   title TEXT        what it calls itself
#   from ADDRESS      where its connection comes from (root only)
#   sshd KEY VALUE    how the sshd is set that we are logged in to (root only)

# shellcheck shell=sh
LC_ALL=C PATH=${PATH:-/usr/bin}:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
set -f

see() {
  echo 'wayhome-see 1'
  case ${1-} in '' | *[!0-9]*) ;; *) process "$1" ;; esac
  daemon && settings
  exit 0
}

process() {
  { IFS= read -r stat; } 2>/dev/null <"/proc/$1/stat" || return
  { read -r uptime _; } 2>/dev/null </proc/uptime || return
  # shellcheck disable=SC2086 # words are wanted
  set -- "$1" ${stat##*) }
  [ $# -ge 21 ] || return
  # The 22nd field of the file, in ticks, of which Linux has 100 a second for every program.
  pid=$1
  shift 20
  echo "since $((${uptime%%.*} - $1 / 100))"
  echo "title $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline")"
  parent=$(sed -n 's/^PPid:[[:blank:]]*//p' "/proc/$pid/status" 2>/dev/null)
  # The socket is held by both halves of a session; only root sees either.
  command -v ss >/dev/null 2>&1 || return
  ss -Htnp 2>/dev/null | grep -E "pid=($pid|${parent:-$pid})," | sed -n '1s/^[^ ]* *[^ ]* *[^ ]* *[^ ]* *\([^ ]*\) .*/from \1/p'
}

# daemon: sets listener to the sshd that took our connection.
daemon() {
  at=$$
  for step in 1 2 3 4 5 6 7 8 9 10 11 12; do
    at=$(sed -n 's/^PPid:[[:blank:]]*//p' "/proc/$at/status" 2>/dev/null)
    case $at in '' | 0 | 1) return 1 ;; esac
    title=$(tr '\0' ' ' 2>/dev/null <"/proc/$at/cmdline")
    case $title in
      *'[listener]'*) listener=$at; return 0 ;;
    esac
  done
  return 1
}

settings() {
  program=$(readlink "/proc/$listener/exe" 2>/dev/null) || return
  config=
  case $title in
    *' -f '*)
      config=${title#* -f }
      config=${config%% *}
      ;;
  esac
  "$program" -T ${config:+-f "$config"} 2>/dev/null |
    grep -E '^(clientaliveinterval|clientalivecountmax|gatewayports|allowtcpforwarding) ' |
    while read -r key value; do echo "sshd $key $value"; done
}

see "$@"
