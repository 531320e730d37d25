# A stub of OpenWrt's /lib/functions.sh: UCI configuration for scripts, and what a package's postinst and prerm do.
# See README.md.
# shellcheck shell=dash
# shellcheck disable=SC1090,SC2013,SC3043

# --- UCI. With a real `uci` on the path its export is read; else the file itself, whose syntax the shell can read too.

config_load() {
	[ -z "${IPKG_INSTROOT-}" ] || return 0
	local file="${UCI_CONFIG_DIR:-/etc/config}/$1"
	[ -e "$file" ] || return 1
	local variable
	for variable in ${stub_lists-}; do unset "CONFIG_$variable" "CONFIG_${variable}_LENGTH"; done
	stub_sections='' stub_lists=''
	if command -v uci >/dev/null; then
		eval "$(uci -n export "$1")"
	else
		. "$file"
	fi
}

package() { :; }

config() {
	stub_section=${2:-cfg$(($(echo "$stub_sections" | wc -w) + 1))}
	stub_sections="$stub_sections $stub_section"
	config_set "$stub_section" TYPE "$1"
}

option() {
	config_set "$stub_section" "$1" "$2"
}

list() {
	local length joined
	config_get length "$stub_section" "$1_LENGTH" 0
	config_get joined "$stub_section" "$1"
	length=$((length + 1))
	stub_lists="$stub_lists ${stub_section}_$1"
	config_set "$stub_section" "$1_ITEM$length" "$2"
	config_set "$stub_section" "$1_LENGTH" $length
	config_set "$stub_section" "$1" "${joined:+$joined }$2"
}

config_set() {
	eval "CONFIG_$1_$2=\$3"
}

config_get() {
	eval "$1=\${CONFIG_$2_$3:-\${4-}}"
}

config_get_bool() {
	local value
	config_get value "$2" "$3" "${4-}"
	case "$value" in
	1 | on | true | yes | enabled) value=1 ;;
	0 | off | false | no | disabled) value=0 ;;
	*) value=${4-} ;;
	esac
	eval "$1=\$value"
}

config_foreach() {
	local call="$1" wanted="$2" section type
	shift 2
	for section in $stub_sections; do
		config_get type "$section" TYPE
		case "$wanted" in '' | "$type") "$call" "$section" "$@" ;; esac
	done
}

config_list_foreach() {
	local section="$1" option="$2" call="$3" length item=1 value
	shift 3
	config_get length "$section" "${option}_LENGTH" 0
	while [ $item -le "$length" ]; do
		config_get value "$section" "${option}_ITEM$item"
		"$call" "$value" "$@"
		item=$((item + 1))
	done
}

# --- Packages. opkg runs the scripts of a package as /usr/lib/opkg/info/NAME.postinst and NAME.prerm.

stub_next_id() {
	local id=32768
	while cut -d: -f3 "$1" | grep -qx $id; do id=$((id + 1)); done
	echo $id
}

# `Require-User: user[=uid]:group[=gid]` of the control file.
stub_add_users() {
	local root="${IPKG_INSTROOT-}" tuple user group gid
	for tuple in $(sed -n 's/^Require-User: *//p' "$root/usr/lib/opkg/info/$1.control"); do
		user=${tuple%%:*} group=${tuple#*:}
		group=${group%%:*}
		grep -q "^${group%%=*}:" "$root/etc/group" || {
			gid=${group#"${group%%=*}"}
			gid=${gid#=}
			echo "${group%%=*}:x:${gid:-$(stub_next_id "$root/etc/group")}:" >>"$root/etc/group"
		}
		gid=$(sed -n "s/^${group%%=*}:[^:]*:\([0-9]*\):.*/\1/p" "$root/etc/group")
		grep -q "^${user%%=*}:" "$root/etc/passwd" || {
			local uid="${user#"${user%%=*}"}"
			uid=${uid#=}
			uid=${uid:-$(stub_next_id "$root/etc/passwd")}
			echo "${user%%=*}:x:$uid:$gid:${user%%=*}:/var/run/${user%%=*}:/bin/false" >>"$root/etc/passwd"
		}
	done
}

stub_each_init() {
	local root="${IPKG_INSTROOT-}" script
	for script in $(grep -s '^/etc/init.d/' "$root/usr/lib/opkg/info/$1.list"); do
		shift
		local action
		for action in "$@"; do
			if [ -n "$root" ]; then
				# On a build host, with its shell.
				case "$action" in
				enable | disable) sh "$root/etc/rc.common" "$root$script" "$action" ;;
				esac
			else
				"$script" "$action"
			fi
		done
	done
	return 0
}

# Scripts that run once, on a router: after the installation here, in an image at its first boot.
stub_uci_defaults() {
	local script
	[ -z "${IPKG_INSTROOT-}" ] || return 0
	for script in $(grep -s '^/etc/uci-defaults/' "/usr/lib/opkg/info/$1.list"); do
		(. "$script") && rm -f "$script"
	done
}

default_postinst() {
	local name
	name=$(basename "${1%.*}")
	stub_add_users "$name"
	stub_uci_defaults "$name"
	if [ "${PKG_UPGRADE-}" = 1 ]; then
		stub_each_init "$name" start
	else
		stub_each_init "$name" enable start
	fi
}

default_prerm() {
	local name
	name=$(basename "${1%.*}")
	if [ "${PKG_UPGRADE-}" = 1 ]; then
		stub_each_init "$name" stop
	else
		stub_each_init "$name" disable stop
	fi
}
