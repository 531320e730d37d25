#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# test.sh PACKAGE VERSION: run on the installed package by OpenWrt's CI. Nothing is started.
# shellcheck shell=dash
set -e

# says TEXT COMMAND...: the command's output, of which TEXT must be a part. What it printed is shown if not.
says() {
	text=$1
	shift
	output=$("$@" 2>&1) || true
	case "$output" in
	*"$text"*) ;;
	*)
		echo "'$*' should say '$text', but said: $output" >&2
		exit 1
		;;
	esac
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

case "$1" in
qpc-relay)
	says "qpc-relay $2" qpc-relay --version
	printf 'data = "%s/data"\nlisten = ["[::]:7000", "192.168.1.1:7001"]\nregistration = "invite"\nmax-bytes = "2M"\ndisk-bytes = "4M"\n' \
		"$scratch" >"$scratch/good.toml"
	qpc-relay --config "$scratch/good.toml" check-config
	printf 'data = "%s/data"\nlisten = "here"\n' "$scratch" >"$scratch/bad.toml"
	says "bad.toml:2: listen: must be an IP address with a port" qpc-relay --config "$scratch/bad.toml" check-config
	says "never started" qpc-relay --config "$scratch/good.toml" address
	[ ! -e "$scratch/data" ]
	# Self-test: the keys of RFC 8032, 7.1, test 1, fit each other (Ed25519), and their fingerprint (SHA-256) is known.
	mkdir "$scratch/data"
	{
		printf '\060\123\002\001\001\060\005\006\003\053\145\160\004\042\004\040\235\141\261\235'
		printf '\357\375\132\140\272\204\112\364\222\354\054\304\104\111\305\151\173\062\151\031'
		printf '\160\073\254\003\034\256\177\140\241\043\003\041\000\327\132\230\001\202\261\012'
		printf '\267\325\113\376\323\311\144\007\072\016\341\162\363\332\246\043\045\257\002\032'
		printf '\150\367\007\121\032'
	} >"$scratch/data/ca.key"
	says "qpc://192.168.1.1:7000/#06e3fd8fda29bb60ab59557de61edb0aecdb231134be30e75b455f8e1b792fa9" \
		qpc-relay --config "$scratch/good.toml" --name 192.168.1.1 address
	says "option enabled '0'" cat /etc/config/qpc-relay
	[ -x /etc/init.d/qpc-relay ]
	[ -s /etc/hotplug.d/ntp/25-qpc-relay ]
	;;
qpc)
	says "qpc $2" qpc --version
	says "--relay qpc://HOST:PORT/#FINGERPRINT" qpc --state "$scratch/state" --user alice receive
	says "register" qpc --help
	[ ! -e "$scratch/state" ]
	;;
libquicprochat-ffi)
	[ -s /usr/lib/libquicprochat_ffi.so ]
	;;
*)
	echo "there is no package $1 here" >&2
	exit 1
	;;
esac
