/* A management controller and a system management port for platform/device_file.cpp: three calls of
 * Host::perf_library. The file at the path of the device is what it answers, read at every request:
 *
 *   dev/ipmi0:  watts=412 state=64 code=0 stale=1 event=1 silent=0
 *   dev/hsmp:   socket0=182500 socket1=175250
 *
 * stale: an answer to an earlier request comes first. event: so does something that is no answer.
 * silent: nothing comes. refused: the errno of opening. A request that the
 * kernel's header does not describe is EINVAL.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/ipmi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { MAX_DESCRIPTORS = 4096, MAX_WAITING = 4, ANSWER = 19 };
static const unsigned long HSMP = 0xC02CF800UL;

struct message {
    int type;
    long id;
    unsigned char data[ANSWER];
    unsigned length;
};
static struct message waiting[MAX_DESCRIPTORS][MAX_WAITING];
static int count[MAX_DESCRIPTORS];

struct hsmp {
    uint32_t id;
    uint16_t arguments, answers;
    uint32_t words[8];
    uint16_t socket;
};

/* A byte for each request, in the file with the name of the device and ".calls". */
static void count_request(int descriptor) {
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 8);
    if (length <= 0) return;
    strcpy(path + length, ".calls");
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0) return;
    if (write(file, "1", 1) != 1) abort();
    close(file);
}

/* The number after "name=" in the file; `other` without it. */
static long number(int descriptor, const char *name, long other) {
    char text[512] = " ", key[32];
    ssize_t got = pread(descriptor, text + 1, sizeof text - 2, 0);
    if (got <= 0) return other;
    text[1 + got] = '\0';
    snprintf(key, sizeof key, " %s=", name);
    const char *found = strstr(text, key);
    return found ? strtol(found + strlen(key), NULL, 10) : other;
}

/* What is not wanted says 9999 W, which must not be believed. */
static void put(int descriptor, int type, long id, int is_wanted) {
    struct message *one = &waiting[descriptor][count[descriptor]++];
    memset(one, 0, sizeof *one);
    one->type = type;
    one->id = id;
    one->length = ANSWER;
    const unsigned watts = (unsigned)number(descriptor, is_wanted ? "watts" : "", 9999);
    one->data[0] = (unsigned char)number(descriptor, "code", 0);
    one->data[1] = 0xdc;
    for (int i = 2; i < 10; i += 2) {
        one->data[i] = (unsigned char)watts;
        one->data[i + 1] = (unsigned char)(watts >> 8);
    }
    one->data[14] = 0xe8;
    one->data[15] = 0x03;
    one->data[18] = (unsigned char)number(descriptor, "state", 64);
    if (one->data[0] != 0) one->length = 1;
}

static int send_command(int descriptor, const struct ipmi_req *request) {
    static const unsigned char wanted[] = {0xdc, 1, 0, 0};
    const struct ipmi_system_interface_addr *address = (const void *)request->addr;
    if (request->addr_len != sizeof *address || address->channel != IPMI_BMC_CHANNEL ||
        address->addr_type != IPMI_SYSTEM_INTERFACE_ADDR_TYPE || address->lun != 0 ||
        request->msg.netfn != 0x2c || request->msg.cmd != 2 ||
        request->msg.data_len != sizeof wanted ||
        memcmp(request->msg.data, wanted, sizeof wanted) != 0) {
        errno = EINVAL;
        return -1;
    }
    count[descriptor] = 0;
    count_request(descriptor);
    if (number(descriptor, "silent", 0)) return 0;
    if (number(descriptor, "event", 0)) put(descriptor, IPMI_ASYNC_EVENT_RECV_TYPE, request->msgid, 0);
    if (number(descriptor, "stale", 0)) put(descriptor, IPMI_RESPONSE_RECV_TYPE, request->msgid - 1, 0);
    put(descriptor, IPMI_RESPONSE_RECV_TYPE, request->msgid, 1);
    return 0;
}

static int receive(int descriptor, struct ipmi_recv *answer) {
    if (count[descriptor] == 0) {
        errno = EAGAIN;
        return -1;
    }
    struct message one = waiting[descriptor][0];
    memmove(&waiting[descriptor][0], &waiting[descriptor][1], sizeof one * (MAX_WAITING - 1));
    count[descriptor]--;
    if (answer->addr_len < sizeof(struct ipmi_system_interface_addr) ||
        answer->msg.data_len < one.length) {
        errno = EMSGSIZE;
        return -1;
    }
    answer->recv_type = one.type;
    answer->msgid = one.id;
    answer->msg.data_len = (unsigned short)one.length;
    memcpy(answer->msg.data, one.data, one.length);
    return 0;
}

static int ask_port(int descriptor, struct hsmp *message) {
    char name[16];
    snprintf(name, sizeof name, "socket%u", message->socket);
    const long milliwatts = number(descriptor, name, -1);
    if (message->id != 4 || message->answers != 1 || message->arguments != 0) errno = EINVAL;
    else if (milliwatts < 0) errno = ENODEV;
    else {
        message->words[0] = (uint32_t)milliwatts;
        return 0;
    }
    return -1;
}

int carbontracker_device_open(const char *path, int flags) {
    int descriptor = open(path, (flags & ~O_ACCMODE) | O_RDONLY);
    if (descriptor >= MAX_DESCRIPTORS) {
        close(descriptor);
        errno = EMFILE;
        return -1;
    }
    if (descriptor >= 0 && number(descriptor, "refused", 0)) {
        errno = (int)number(descriptor, "refused", 0);
        close(descriptor);
        return -1;
    }
    return descriptor;
}

int carbontracker_device_control(int descriptor, unsigned long request, void *argument) {
    if (request == IPMICTL_SEND_COMMAND) return send_command(descriptor, argument);
    if (request == IPMICTL_RECEIVE_MSG_TRUNC) return receive(descriptor, argument);
    if (request == HSMP) return ask_port(descriptor, argument);
    errno = ENOTTY;
    return -1;
}

int carbontracker_device_wait(int descriptor, int milliseconds) {
    if (count[descriptor] > 0) return 1;
    struct timespec pause = {milliseconds / 1000, (milliseconds % 1000) * 1000000L};
    nanosleep(&pause, NULL);
    return 0;
}
