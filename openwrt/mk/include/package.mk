# A stand-in, see ../rules.mk. The targets:
#   metadata      what packages there are; fails if one lacks what OpenWrt or its reviewers ask for
#   stage-NAME    the files of a package into STAGE/files, its control fields into STAGE/control, conffiles into STAGE/conffiles
#   stage-dev     what other packages find while they are built (Build/InstallDev) into STAGE/files
# with STAGE, ARCH, PKG_BUILD_DIR (the source), PKG_INSTALL_DIR (what was built) and SOURCE_DATE_EPOCH given.

VERSION=$(PKG_VERSION)-r$(PKG_RELEASE)
FIELDS:=SECTION CATEGORY SUBMENU TITLE URL DEPENDS USERID

.DEFAULT_GOAL:=metadata
.PHONY: metadata stage-dev

metadata:
	$(foreach variable,PKG_NAME PKG_VERSION PKG_RELEASE PKG_SOURCE PKG_SOURCE_URL PKG_MAINTAINER PKG_LICENSE PKG_LICENSE_FILES,$(call required,$(variable),$($(variable))))
	@echo '$(PKG_HASH)' | grep -qE '^[0-9a-f]{64}$$' || { echo 'PKG_HASH is no SHA-256' >&2; exit 1; }

stage-dev:
	$(call Build/InstallDev,$(STAGE)/files)

required=$(if $(strip $(2)),,$(error $(1) is missing))
field=$(if $(2),$(1): $(2)$(newline))
define newline


endef

# As OpenWrt does: "@..." is for its menu, "+" means "select it too".
control_depends=$(subst $(space),$(comma) ,$(strip libc $(patsubst +%,%,$(filter-out @%,$(1)))))

define BuildPackage
$(foreach field,$(FIELDS),$(eval $(field):=))
$(eval $(Package/$(1)))
$(foreach field,SECTION CATEGORY TITLE,$(call required,$(field) of $(1),$($(field))))
$(call required,Package/$(1)/install,$(value Package/$(1)/install))
$(call required,Package/$(1)/description,$(value Package/$(1)/description))

.PHONY: stage-$(1) metadata-$(1)
metadata: metadata-$(1)
metadata-$(1):
	@echo '$(1) $(VERSION)'

stage-$(1): CONTROL_USER:=$(USERID)
stage-$(1): CONTROL_SECTION:=$(SECTION)
stage-$(1): CONTROL_DEPENDS:=$(call control_depends,$(DEPENDS))
stage-$(1):
	$$(call Package/$(1)/install,$$(STAGE)/files)
	$$(file >$$(STAGE)/control,$$(call control,$(1)))
	$$(file >$$(STAGE)/conffiles,$$(Package/$(1)/conffiles))
	@sed -i '/^$$$$/d' $$(STAGE)/control $$(STAGE)/conffiles
endef

define control
Package: $(1)
Version: $(VERSION)
$(call field,Depends,$(CONTROL_DEPENDS))
Source: openwrt/$(PKG_NAME)
SourceName: $(PKG_NAME)
License: $(PKG_LICENSE)
LicenseFiles: $(PKG_LICENSE_FILES)
Section: $(CONTROL_SECTION)
$(call field,Require-User,$(CONTROL_USER))
SourceDateEpoch: $(SOURCE_DATE_EPOCH)
Maintainer: $(PKG_MAINTAINER)
Architecture: $(ARCH)
Installed-Size: 0
Description: $(Package/$(1)/description)
endef
