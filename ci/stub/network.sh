# A stub of OpenWrt's /lib/functions/network.sh: reads /etc/stub-network, lines of "INTERFACE ADDRESS...", instead of asking
# netifd. See README.md.
# shellcheck shell=dash
# shellcheck disable=SC3043

network_get_ipaddrs_all() {
	local stub_addresses
	stub_addresses=$(sed -n "s/^$2 //p" /etc/stub-network 2>/dev/null)
	[ -n "$stub_addresses" ] || { unset "$1"; return 1; }
	eval "$1=\$stub_addresses"
}

network_get_ipaddr() {
	local stub_all stub_one
	network_get_ipaddrs_all stub_all "$2" || { unset "$1"; return 1; }
	for stub_one in $stub_all; do
		case "$stub_one" in
		*:*) ;;
		*) eval "$1=\$stub_one"; return 0 ;;
		esac
	done
	unset "$1"
	return 1
}

network_flush_cache() { :; }
