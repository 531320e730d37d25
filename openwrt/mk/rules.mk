# A stand-in, of our own, for what OpenWrt's build system gives a package Makefile: openwrt/pack reads ../qpc/Makefile with
# it, so that packages made without the SDK have the metadata and files of those made with it. It compiles nothing.

SHELL:=/bin/bash
INCLUDE_DIR:=$(TOPDIR)/include

INSTALL_DIR:=install -d -m0755
INSTALL_BIN:=install -m0755
INSTALL_DATA:=install -m0644
INSTALL_CONF:=install -m0600
CP:=cp -fpR

empty:=
space:=$(empty) $(empty)
comma:=,
