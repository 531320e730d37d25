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
	qpc-relay self-test
	says "option enabled '0'" cat /etc/config/qpc-relay
	[ -x /etc/init.d/qpc-relay ]
	[ -s /etc/hotplug.d/ntp/25-qpc-relay ]
	;;
qpc)
	says "qpc $2" qpc --version
	says "--relay qpc://HOST:PORT/#FINGERPRINT" qpc --state "$scratch/state" --user alice receive
	says "register" qpc --help
	[ ! -e "$scratch/state" ]
	says "option enabled '0'" cat /etc/config/qpc
	[ -x /etc/init.d/qpc ]
	for script in /etc/hotplug.d/*/95-qpc /usr/lib/qpc/events.sh /usr/libexec/qpc/* /usr/libexec/rpcd/qpc; do sh -n "$script"; done
	says '"receive"' /usr/libexec/rpcd/qpc list
	;;
libquicprochat-ffi)
	[ -s /usr/lib/libquicprochat_ffi.so ]
	;;
libipc)
	[ -s /usr/lib/libipc.so ]
	;;
libcoquic-quinn)
	[ -s /usr/lib/libcoquic_quinn.so ]
	;;
*)
	echo "there is no package $1 here" >&2
	exit 1
	;;
esac
