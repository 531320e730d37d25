# A stub of OpenWrt's /lib/functions/procd.sh. It asks no procd for anything: it writes every call down, one JSON object
# a line, in $PROCD_STUB_RECORD. message.jq makes of these lines what procd would have been told. See README.md.
# shellcheck shell=dash
# shellcheck disable=SC2119,SC2120,SC2317,SC3043

PROCD_STUB_RECORD=${PROCD_STUB_RECORD:-${IPKG_INSTROOT-}/var/run/procd-stub.jsonl}
PROCD_STUB_STATE=${PROCD_STUB_STATE:-${IPKG_INSTROOT-}/var/run/procd-stub}

stub_json_string() {
	printf '"'
	printf '%s\n' "$1" | sed -e ':a' -e '$!{N' -e 'ba' -e '}' -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/	/\\t/g' \
		-e 's/\n/\\n/g' | tr -d '\n'
	printf '"'
}

stub_record() {
	local line comma=
	line="{\"call\":$(stub_json_string "$1"),\"args\":["
	shift
	local argument
	for argument in "$@"; do
		line="$line$comma$(stub_json_string "$argument")"
		comma=,
	done
	mkdir -p "${PROCD_STUB_RECORD%/*}"
	printf '%s]}\n' "$line" >>"$PROCD_STUB_RECORD"
}

# Calls that are only written down.
for stub_call in procd_add_jail procd_add_jail_mount procd_add_jail_mount_rw procd_open_data \
	procd_close_data procd_open_trigger procd_close_trigger procd_add_mdns procd_add_reload_trigger \
	procd_add_raw_trigger procd_add_config_trigger procd_add_interface_trigger procd_add_reload_interface_trigger \
	procd_add_reload_mount_trigger procd_add_restart_mount_trigger procd_add_validation procd_set_config_changed \
	procd_send_signal json_init json_add_object json_close_object json_add_array json_close_array json_add_string \
	json_add_int json_add_boolean; do
	eval "$stub_call() { stub_record $stub_call \"\$@\"; }"
done

procd_open_service() {
	stub_record procd_open_service "$@"
	stub_service=$1 stub_instances=' '
}

procd_open_instance() {
	stub_record procd_open_instance "$@"
	stub_name=$stub_service
	[ "$stub_instances" = ' ' ] || stub_name=$stub_service.$1
	stub_instances="$stub_instances$stub_name "
	stub_command='' stub_user=root stub_files='' stub_env=''
}

procd_close_instance() {
	stub_record procd_close_instance "$@"
	[ ! -e "$PROCD_STUB_STATE/run" ] || stub_run
}

procd_set_param() {
	stub_record procd_set_param "$@"
	stub_note "$@"
}

procd_append_param() {
	stub_record procd_append_param "$@"
	stub_note "$@"
}

# What the optional running needs to know of an instance.
stub_note() {
	local type="$1"
	shift
	case "$type" in
	user) stub_user=$1 ;;
	file) stub_files="$stub_files $*" ;;
	env) stub_env="$stub_env $(stub_words "$@")" ;;
	command) stub_command="$stub_command $(stub_words "$@")" ;;
	esac
}

stub_words() {
	local word
	for word in "$@"; do
		printf " '%s'" "$(printf '%s\n' "$word" | sed "s/'/'\\\\''/g")"
	done
}

procd_close_service() {
	stub_record json_open_triggers
	service_triggers
	stub_record json_close_triggers
	stub_record procd_open_data
	service_data
	stub_record procd_close_data
	stub_record procd_close_service "$@"
	[ ! -e "$PROCD_STUB_STATE/run" ] || stub_end_others "$stub_service" "$stub_instances"
}

procd_kill() {
	stub_record procd_kill "$@"
	[ ! -e "$PROCD_STUB_STATE/run" ] || stub_end_others "$1" ' '
}

procd_running() {
	local pid
	pid=$(cat "$PROCD_STUB_STATE/$1.pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null
}

# Where the file system of a path is to be mounted, of those in /etc/config/fstab.
procd_get_mountpoints() {
	(
		stub_mountpoint() {
			local target
			config_get target "$1" target
			case "${2%/}/" in "${target%/}"/*) echo "${target%/}" ;; esac
		}
		config_load fstab || exit 0
		for path in "$@"; do config_foreach stub_mountpoint mount "$path"; done
	) | sort -u
}

# --- Running, if $PROCD_STUB_STATE/run exists: each instance, as its user, once. A crash is to be seen, so nothing is
# restarted. As with procd, setting a service again changes nothing while command, user, environment and files are the same.

stub_run() {
	local state="$PROCD_STUB_STATE/$stub_name" wanted
	# shellcheck disable=SC2086
	wanted="$stub_user $stub_env $stub_command $(cat /dev/null $stub_files 2>/dev/null | sha256sum)"
	if procd_running "$stub_name" && [ "$wanted" = "$(cat "$state.wanted")" ]; then
		return 0
	fi
	stub_end "$stub_name"
	[ -n "$stub_command" ] || return 0
	printf '%s\n' "$wanted" >"$state.wanted"
	# The shell becomes start-stop-daemon, and that the program: one process, whose id is known.
	(
		eval "set -- $stub_command"
		program=$1
		shift
		eval "exec setsid env $stub_env start-stop-daemon -S -p '$state.none' -c '$stub_user' -x '$program' -- \"\$@\""
	) </dev/null >>"$state.out" 2>>"$state.err" &
	echo $! >"$state.pid"
}

# stub_end_others SERVICE INSTANCES: ends all of the service's but these
stub_end_others() {
	local file name
	for file in "$PROCD_STUB_STATE/$1.pid" "$PROCD_STUB_STATE/$1".*.pid; do
		name=${file##*/}
		name=${name%.pid}
		case "$2" in
		*" $name "*) ;;
		*) stub_end "$name" ;;
		esac
	done
}

stub_end() {
	local pid waited=0
	pid=$(cat "$PROCD_STUB_STATE/$1.pid" 2>/dev/null) || return 0
	rm -f "$PROCD_STUB_STATE/$1.pid"
	kill -TERM "$pid" 2>/dev/null || return 0
	while kill -0 "$pid" 2>/dev/null; do
		[ $waited -lt 15 ] || kill -KILL "$pid"
		sleep 1
		waited=$((waited + 1))
	done
}

# --- UCI sections with types.

uci_validate_section() {
	local result error
	result=$(/sbin/validate_data "$@" 2>/dev/null)
	error=$?
	eval "$result"
	[ $error -eq 0 ] || /sbin/validate_data "$@" >/dev/null
	return $error
}

uci_load_validate() {
	local stub_package="$1" stub_type="$2" stub_section_name="$3" stub_call="$4" stub_option
	shift 4
	for stub_option in "$@"; do
		eval "local ${stub_option%%:*}="
	done
	uci_validate_section "$stub_package" "$stub_type" "$stub_section_name" "$@"
	set -- $?
	[ -n "$stub_call" ] || return "$1"
	"$stub_call" "$stub_section_name" "$1"
}
