/* An app without a virtual machine: loads the library, records and sends what a tunnel with many flows carries, and tells
   how much memory that took.

   host empty                                     loads nothing
   host run LIBRARY CONFIG DIRECTORY URL FLOWS    CONFIG is a wg-quick file whose peer answers the first packet

   It speaks UniFFI's C interface, as declared by the header of the Swift bindings: values are big-endian, a method takes a
   handle of its own, and texts have a length in front except as arguments and results. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Clang's, which the header uses. */
#ifndef __clang__
#define _Nonnull
#define _Nullable
#endif
#include "TuntrailFFI.h"

/* For the answer of the tunnel's other end, in milliseconds. Far more than it takes. */
enum { PATIENCE = 30000 };

static void *library;

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

/* The library's function of that name, with its type from the header. */
#define FUNCTION(name) ((__typeof__(&name))symbol(#name))

static void *symbol(const char *name)
{
    void *address = dlsym(library, name);
    if (!address) fail("%s", dlerror());
    return address;
}

/* Ends the program if a call failed. An error holds the number of its kind and a text. */
static void check(const char *what, const RustCallStatus *status)
{
    if (status->code == 0) return;
    uint64_t skip = status->code == 1 && status->errorBuf.len > 8 ? 8 : 0;
    fail("%s failed (%d): %.*s", what, status->code, (int)(status->errorBuf.len - skip),
         status->errorBuf.data ? (const char *)status->errorBuf.data + skip : "");
}

/* A value on its way to Rust. */
struct value { uint8_t bytes[4096]; size_t len; };

static void put(struct value *value, const void *bytes, size_t len)
{
    if (len > sizeof value->bytes - value->len) fail("a value is too long");
    memcpy(value->bytes + value->len, bytes, len);
    value->len += len;
}

static void put_number(struct value *value, uint64_t number, size_t width)
{
    for (size_t byte = width; byte-- > 0;) {
        uint8_t part = (uint8_t)(number >> (8 * byte));
        put(value, &part, 1);
    }
}

static void put_text(struct value *value, const char *text)
{
    put_number(value, strlen(text), 4);
    put(value, text, strlen(text));
}

static void put_none(struct value *value) { put_number(value, 0, 1); }
static void put_bool(struct value *value, int yes) { put_number(value, yes != 0, 1); }
/* Variants count from 1. */
static void put_variant(struct value *value, uint32_t variant) { put_number(value, variant, 4); }

static RustBuffer buffer(const void *bytes, size_t len)
{
    RustCallStatus status = {0};
    ForeignBytes foreign = {(int32_t)len, bytes};
    RustBuffer result = FUNCTION(ffi_tuntrail_ffi_rustbuffer_from_bytes)(foreign, &status);
    check("copying a value", &status);
    return result;
}

static RustBuffer lift(const struct value *value) { return buffer(value->bytes, value->len); }

static RustBuffer none(void)
{
    struct value value = {.len = 0};
    put_none(&value);
    return lift(&value);
}

static void release(RustBuffer gone)
{
    RustCallStatus status = {0};
    FUNCTION(ffi_tuntrail_ffi_rustbuffer_free)(gone, &status);
    check("freeing a value", &status);
}

static uint64_t start_client(const char *directory, const char *url)
{
    struct value config = {.len = 0};
    put_text(&config, directory);
    put_text(&config, url);
    put_variant(&config, 2);               /* consent: granted */
    put_none(&config);                     /* role */
    put_none(&config);                     /* flows */
    put_none(&config);                     /* sessions */
    put_none(&config);                     /* uploads */
    put_bool(&config, 0);                  /* socket statistics */
    put_none(&config);                     /* bytes on disk */
    put_bool(&config, 1);                  /* collections */
    put_bool(&config, 1);
    put_text(&config, "windows.test.example");
    put_none(&config);
    put_none(&config);
    put_none(&config);
    put_none(&config);
    put_none(&config);                     /* private ID */
    put_none(&config);                     /* copy ID */
    put_text(&config, "info");
    put_none(&config);                     /* version of the app */
    put_none(&config);                     /* remote commands */
    RustCallStatus status = {0};
    uint64_t client = FUNCTION(uniffi_tuntrail_ffi_fn_constructor_client_new)(lift(&config), &status);
    check("starting the client", &status);
    return client;
}

/* A method uses up the handle it is called with. */
static uint64_t own_handle(uint64_t client)
{
    RustCallStatus status = {0};
    uint64_t handle = FUNCTION(uniffi_tuntrail_ffi_fn_clone_client)(client, &status);
    check("copying a handle", &status);
    return handle;
}

static void put_node(struct value *map, int64_t id, const char *name, const char *address)
{
    put_number(map, (uint64_t)id, 8);
    put_text(map, name);                   /* stable ID */
    put_text(map, name);
    put_number(map, 1, 4);
    put_text(map, address);
    put_text(map, "linux");
    put_none(map);                         /* user */
    put_number(map, 0, 4);                 /* tags */
}

/* Two nodes, so that what is between them is virtual traffic. */
static void set_network(uint64_t client)
{
    struct value map = {.len = 0}, routes = {.len = 0};
    put_bool(&map, 1);
    put_node(&map, 1, "host", "10.0.0.1");
    put_number(&map, 1, 4);
    put_node(&map, 2, "peer", "10.0.0.2");
    put_number(&map, 0, 4);                /* users */
    put_number(&routes, 1, 4);
    put_text(&routes, "10.0.0.1/32");
    put_number(&routes, 0, 4);
    put_number(&routes, 0, 4);
    RustCallStatus status = {0};
    FUNCTION(uniffi_tuntrail_ffi_fn_method_client_set_network)(own_handle(client), lift(&map), lift(&routes), &status);
    check("setting the network", &status);
}

static void start_tunnel(uint64_t client, const char *path, int descriptor)
{
    char text[4096];
    FILE *file = fopen(path, "r");
    if (!file) fail("%s: %s", path, strerror(errno));
    size_t len = fread(text, 1, sizeof text, file);
    fclose(file);
    RustCallStatus status = {0};
    RustBuffer config = FUNCTION(uniffi_tuntrail_ffi_fn_func_parse_tunnel_config)(buffer(text, len), &status);
    check("reading the configuration", &status);
    struct value device = {.len = 0};
    put_variant(&device, 1);               /* a TUN descriptor */
    put_number(&device, (uint32_t)descriptor, 4);
    RustBuffer info = FUNCTION(uniffi_tuntrail_ffi_fn_method_client_start_tunnel)(own_handle(client), config,
        lift(&device), none(), none(), &status);
    check("starting the tunnel", &status);
    release(info);
}

static void flush(uint64_t client)
{
    RustCallStatus status = {0};
    FUNCTION(uniffi_tuntrail_ffi_fn_method_client_flush)(own_handle(client), &status);
    check("flushing", &status);
}

static void upload(uint64_t client)
{
    RustCallStatus status = {0};
    struct value streams = {.len = 0};
    put_number(&streams, 0, 4);            /* all of them */
    uint64_t handle = FUNCTION(uniffi_tuntrail_ffi_fn_method_client_upload)(own_handle(client), buffer("memory", 6),
        lift(&streams), &status);
    check("uploading", &status);
    RustBuffer report = FUNCTION(uniffi_tuntrail_ffi_fn_method_upload_join)(handle, &status);
    check("waiting for the upload", &status);
    if (report.len < 1 || report.data[0] != 1) fail("the upload is not complete");
    release(report);
}

static void shut_down(uint64_t client)
{
    RustCallStatus status = {0};
    FUNCTION(uniffi_tuntrail_ffi_fn_method_client_shutdown)(own_handle(client), &status);
    check("shutting down", &status);
    FUNCTION(uniffi_tuntrail_ffi_fn_free_client)(client, &status);
    check("freeing the client", &status);
}

/* A UDP packet from a port of ours to the peer. */
static void send_packet(int descriptor, unsigned number)
{
    unsigned port = 1024 + number;
    uint8_t packet[128] = {
        0x45, 0, 0, sizeof packet, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        (uint8_t)(port >> 8), (uint8_t)port, 0x1f, 0x90, 0, sizeof packet - 20, 0, 0,
    };
    /* Blocks while the tunnel's end is full, so none is lost. */
    if (send(descriptor, packet, sizeof packet, 0) != sizeof packet) fail("sending: %s", strerror(errno));
}

/* Waits for the peer's answer, and so for the handshake. */
static void await_answer(int descriptor)
{
    struct pollfd answer = {.fd = descriptor, .events = POLLIN};
    uint8_t packet[2048];
    if (poll(&answer, 1, PATIENCE) != 1) fail("no answer through the tunnel");
    if (recv(descriptor, packet, sizeof packet, 0) <= 0) fail("receiving: %s", strerror(errno));
}

/* What the kernel says about this process, in KiB. */
static void print_memory(const char *when)
{
    FILE *file = fopen("/proc/self/status", "r");
    if (!file) fail("/proc/self/status: %s", strerror(errno));
    char line[256];
    long now = 0, peak = 0;
    while (fgets(line, sizeof line, file)) {
        sscanf(line, "VmRSS: %ld", &now);
        sscanf(line, "VmHWM: %ld", &peak);
    }
    fclose(file);
    printf("%s now_kib %ld peak_kib %ld\n", when, now, peak);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "empty") == 0) {
        print_memory("empty");
        return 0;
    }
    if (argc != 7 || strcmp(argv[1], "run") != 0) fail("usage: host empty | run LIBRARY CONFIG DIRECTORY URL FLOWS");
    unsigned flows = (unsigned)strtoul(argv[6], NULL, 10);
    if (flows < 1 || flows > 60000) fail("%s flows: choose 1 to 60000", argv[6]);
    library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
    if (!library) fail("%s", dlerror());
    print_memory("loaded");

    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) fail("socketpair: %s", strerror(errno));
    uint64_t client = start_client(argv[4], argv[5]);
    set_network(client);
    start_tunnel(client, argv[3], ends[1]);
    send_packet(ends[0], 0);
    await_answer(ends[0]);
    print_memory("connected");
    for (unsigned number = 1; number < flows; number++) send_packet(ends[0], number);
    print_memory("flows");
    flush(client);
    upload(client);
    print_memory("uploaded");
    shut_down(client);
    close(ends[0]);
    print_memory("end");
    return 0;
}
