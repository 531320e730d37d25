# Used in musl's source folder, after its configure: musl's own objects, linked by lld. zig cc cannot link a libc.
#   make -f .../musl.mk LD="zig ld.lld" RT=compiler_rt.o libc.so
include Makefile

libc.so: $(LOBJS) $(LDSO_OBJS)
	$(LD) -shared -s -z text --gc-sections -e _dlstart --hash-style=sysv -Bsymbolic-functions --dynamic-list=dynamic.list \
		-soname libc.so -o $@ $^ $(RT)
