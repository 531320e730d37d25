# A stand-in, see ../../../../rules.mk.
RUST_ARCH_DEPENDS:=@(aarch64||arm||mips||mipsel||x86_64)
RustBinPackage=
