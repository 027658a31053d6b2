#!/bin/sh
# shellcheck disable=SC2086,SC2046,SC2034,SC2154 # see the second half
# wayhome-gate PORT...: the only command that a home's key may run at this gateway.
#
# Install it, as root:
#   wayhome gate >/usr/local/libexec/wayhome-gate
#   chmod 0755 /usr/local/libexec/wayhome-gate
# An account for homes, with a real shell (under `nologin` sshd could not run this):
#   useradd --system --create-home --shell /bin/sh --password '*' wayhome
# A line in that account's ~/.ssh/authorized_keys for each home, as printed by
#   wayhome gate --authorize home.pub --port 2222
# and for each laptop that jumps through here, as printed by
#   wayhome gate --authorize laptop.pub --port 2222 --laptop
# A file /etc/ssh/sshd_config.d/wayhome.conf (then `sshd -t`, and reload sshd):
#   Match User wayhome
#     AllowTcpForwarding yes
#     GatewayPorts no
#     AllowStreamLocalForwarding no
#     PasswordAuthentication no
#     KbdInteractiveAuthentication no
#
# Whoever has the key may be hostile: nothing that it sends is evaluated, here or below. The
# ports are this file's arguments, from authorized_keys, and never the key holder's words.

LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
unset IFS CDPATH ENV BASH_ENV
set -f
umask 077
cd / || exit 1
# No line is longer than memory: the shell reads a line whole, and ends where this ends.
# shellcheck disable=SC3045 # not in POSIX; in every shell that is /bin/sh on Linux
ulimit -v 262144 2>/dev/null

case ${SSH_ORIGINAL_COMMAND-} in
  *' wayhome-hold '*) ;;
  *)
    echo "wayhome-gate: this key may hold the port $* for a home here, and nothing else" >&2
    exit 1
    ;;
esac

# The agent sends a script, which it would run where no gate is. This is the gate's own.
skipped=0
while IFS= read -r line; do
  if [ "$line" = '#end' ]; then break; fi
  skipped=$((skipped + 1))
  if [ $skipped -gt 4000 ]; then
    echo 'wayhome-gate: a script without an end' >&2
    exit 1
  fi
done
WAYHOME_GATE=1

