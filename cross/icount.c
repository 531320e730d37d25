/*
 * Counts the guest instructions of one program under QEMU's user mode:
 *
 *   cc -O2 -shared -fPIC -o libicount.so cross/icount.c
 *   qemu-mipsel -cpu 24Kc -plugin ./libicount.so -d plugin PROGRAM    # last line on stderr: icount N
 *
 * The number does not depend on the host or its load, so CI can gate on it. It counts translated blocks as
 * entered, so a block that is left early by a signal counts whole; threads that run at the same time may lose
 * counts (the inline add is not atomic): count single-threaded programs.
 *
 * Debian does not ship qemu-plugin.h. The few declarations below are the plugin API, version 1, that bookworm's
 * QEMU 7.2 implements; QEMU 9 and newer ask for version 2 or more and refuse this file with a clear message.
 */
#include <inttypes.h>
#include <stdio.h>

struct qemu_plugin_tb;
extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*cb)(uint64_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int op, void *counter, uint64_t add);
extern void qemu_plugin_register_atexit_cb(uint64_t id, void (*cb)(uint64_t, void *), void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern void qemu_plugin_outs(const char *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;
static uint64_t instructions;

static void translated(uint64_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, 0 /* add */, &instructions, qemu_plugin_tb_n_insns(tb));
}

static void ended(uint64_t id, void *data) {
    char line[40];
    (void)id, (void)data;
    snprintf(line, sizeof line, "icount %" PRIu64 "\n", instructions);
    qemu_plugin_outs(line);
}

__attribute__((visibility("default"))) int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv) {
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
