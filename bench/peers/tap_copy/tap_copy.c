/* The bare loop that a router between two taps cannot be faster than: reads frames of up to 64 KiB, with
 * their virtio headers, from either tap and writes them to the other, as they are.
 *
 *   tap_copy NETNS1 NETNS2     makes the tap eth0 in both and copies until it is killed */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CHECK(what) \
    do { if ((what) < 0) { perror(#what); exit(1); } } while (0)

static int tap_in(const char *netns)
{
    int ns, fd, header = 12;
    struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

    CHECK(ns = open(netns, O_RDONLY));
    CHECK(setns(ns, CLONE_NEWNET));
    CHECK(fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK));
    strcpy(request.ifr_name, "eth0");
    CHECK(ioctl(fd, TUNSETIFF, &request));
    CHECK(ioctl(fd, TUNSETVNETHDRSZ, &header));
    CHECK(ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN));
    return fd;
}

int main(int argc, char **argv)
{
    static char frame[1 << 17];
    struct pollfd taps[2];

    if (argc != 3) {
        fprintf(stderr, "usage: tap_copy NETNS1 NETNS2\n");
        return 2;
    }
    for (int i = 0; i < 2; i++)
        taps[i] = (struct pollfd){ .fd = tap_in(argv[i + 1]), .events = POLLIN };
    puts("ready");
    fflush(stdout);
    for (;;) {
        CHECK(poll(taps, 2, -1));
        for (int i = 0; i < 2; i++) {
            for (int n = 0; n < 64; n++) {
                ssize_t len = read(taps[i].fd, frame, sizeof frame);
                if (len <= 0)
                    break;
                if (write(taps[!i].fd, frame, len) < 0 && errno != EIO)
                    perror("write");
            }
        }
    }
}
