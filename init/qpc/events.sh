# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=dash
# shellcheck disable=SC2154,SC3043 # hotplug-call passes variables; ash has local
# /usr/lib/qpc/events.sh: what the hooks for router events share. A hook puts an event down as a file in a folder in memory, which
# takes no time and waits for nobody; /usr/libexec/qpc/events gives it to the agent.

# Made by the init script and for root alone. In it: for each event that is enabled a file of its name with the users to tell; `spool`;
# `wake`, a FIFO; `interfaces`, `percent` and `file`, options of events; `known`, the MACs that were seen.
QPC_EVENTS=/var/run/qpc-events
# Root's part of the folder for state: it survives reboots and upgrades.
QPC_KEPT=/etc/qpc

# qpc_clean TEXT [LENGTH]: what others have chosen (host names, users who try to log in), made harmless and short.
qpc_clean() {
	printf '%s' "$1" | tr -c 'A-Za-z0-9 ._:@/+(),-' '?' | cut -c "1-${2:-64}"
}

qpc_log() {
	logger -t qpc -p "daemon.$1" "$2"
}

# qpc_event NAME TEXT: 1 if it is lost
qpc_event() {
	local now file
	[ -s "$QPC_EVENTS/$1" ] || return 0
	file=$1
	set -- "$QPC_EVENTS/spool"/* "$2"
	# The agent itself waits for the relay and sums up what it has. This is full only if nobody takes anything out.
	if [ $# -gt 64 ]; then
		[ -e "$QPC_EVENTS/full" ] || qpc_log err "the agent takes no events, those from now on are lost"
		: >"$QPC_EVENTS/full"
		return 1
	fi
	while [ $# -gt 1 ]; do shift; done
	read -r now _ </proc/uptime
	qpc_count=$((${qpc_count:-0} + 1))
	# In the order of their names. Whoever reads a file must find all of it.
	file=$(printf '%10s-%s-%04d-%s' "$now" $$ $qpc_count "$file" | tr ' ' 0)
	printf '%s\n' "$1" >"$QPC_EVENTS/.$file" && mv "$QPC_EVENTS/.$file" "$QPC_EVENTS/spool/$file" || return 1
	# It opens without a reader too, and whoever reads empties it before looking at the events: it never fills.
	[ ! -p "$QPC_EVENTS/wake" ] || echo 1<>"$QPC_EVENTS/wake"
}

# --- What hotplug scripts call, with the variables that they get.

qpc_iface() {
	case "$ACTION" in
	ifup) set -- up ;;
	ifdown) set -- down ;;
	*) return 0 ;;
	esac
	grep -qsxF -- "$INTERFACE" "$QPC_EVENTS/interfaces" || return 0
	qpc_event wan "$(qpc_clean "$INTERFACE") is $1"
}

# The events process knows which are new; here only what it has seen is sorted out, as each renewal comes by.
qpc_dhcp() {
	local mac name
	case "$ACTION" in add | update) ;; *) return 0 ;; esac
	mac=$(printf '%s' "$MACADDR" | tr A-F a-f)
	# Of an IPv6 lease there is something else.
	case "$mac" in
	*[!0-9a-f:]*) return 0 ;;
	??:??:??:??:??:??) ;;
	*) return 0 ;;
	esac
	! grep -qsxF -- "$mac" "$QPC_EVENTS/known" || return 0
	# Not the shell's: without one in the environment it has put the router's own there.
	name=$(env | sed -n 's/^HOSTNAME=//p' | head -n 1)
	qpc_event dhcp "$mac $(qpc_clean "$IPADDR") $(qpc_clean "${name:-without a name}")"
}

# --- SSH, as dropbear logs it.

# qpc_log_line LINE: of `logread -f`
qpc_log_line() {
	local text from user
	# "Sat Nov 21 16:57:32 2026 authpriv.info dropbear[123]: TEXT". What is before the first ": " is not of the user's choice.
	case "${1%%: *}" in
	*" dropbear["*"]") text=${1#*: } ;;
	*) return 0 ;;
	esac
	from=$(qpc_clean "${text##* from }")
	user=${text#*\'}
	user=$(qpc_clean "${user%%\'*}" 32)
	case "$text" in
	"Password auth succeeded for '"*) qpc_event ssh "$user logged in from $from with a password" ;;
	"Pubkey auth succeeded for '"*) qpc_event ssh "$user logged in from $from with a key" ;;
	"Bad password attempt for '"*) qpc_event login_failed "wrong password for $user from $from" ;;
	# All that it says of somebody who has only keys. Here the address is "from <192.0.2.1:4711>".
	"Exit before auth from <"*"Max auth tries reached"*)
		from=${text#*<}
		qpc_event login_failed "too many tries for $user from $(qpc_clean "${from%%>*}")"
		;;
	"Login attempt for nonexistent user"*) qpc_event login_failed "a user that does not exist, from $from" ;;
	esac
}

# --- Boot. /etc/qpc/boot says what the last start and end were: the release, "running" or how it ended, and what pstore had.

qpc_release() {
	sed -n "s/^DISTRIB_DESCRIPTION='\(.*\)'/\1/p" /etc/openwrt_release 2>/dev/null
}

# What the kernel wrote when it crashed; it may stay there for several boots.
qpc_pstore() {
	local file records=''
	for file in /sys/fs/pstore/*; do
		[ ! -f "$file" ] || records="$records$(ls -l "$file")"
	done
	[ -z "$records" ] || printf '%s' "$records" | md5sum | cut -d' ' -f1
}

# qpc_put FILE: standard input, whole or not at all, and there to stay when this returns
qpc_put() {
	cat >"$1.new" && sync && mv "$1.new" "$1" && sync && return
	rm -f "$1.new"
	return 1
}

# qpc_boot_record STATE
qpc_boot_record() {
	local record
	record=$(printf '%s\n' "$(qpc_release)" "$1" "$(qpc_pstore)")
	[ "$record" = "$(cat "$QPC_KEPT/boot" 2>/dev/null)" ] || printf '%s\n' "$record" | qpc_put "$QPC_KEPT/boot"
}

qpc_boot_cause() {
	local release ended pstore watchdog
	[ -s "$QPC_KEPT/boot" ] || { echo "of the time before nothing is known"; return; }
	{ read -r release; read -r ended; read -r pstore; } <"$QPC_KEPT/boot"
	watchdog=$(cat /sys/class/watchdog/watchdog0/bootstatus 2>/dev/null)
	if [ -n "$(qpc_pstore)" ] && [ "$(qpc_pstore)" != "$pstore" ]; then
		echo "after a crash of the kernel, /sys/fs/pstore has its last words"
	elif [ "$release" != "$(qpc_release)" ]; then
		echo "after an upgrade to $(qpc_clean "$(qpc_release)")"
	elif [ "$ended" != running ]; then
		echo "after a $(qpc_clean "$ended")"
	# WDIOF_CARDRESET
	elif [ $((${watchdog:-0} & 32)) -ne 0 ]; then
		echo "the watchdog ended what did not answer any more"
	else
		echo "after a power cut, or a crash that left no trace"
	fi
}
