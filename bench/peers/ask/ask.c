/* Requests and responses, one at a time, and how long each took; floods of datagrams, and how many came.
 *
 *   ask serve PORT                      until it is killed: answers datagrams and closes connections to PORT,
 *                                       answers requests on connections to PORT + 1
 *   ask udp ADDRESS PORT COUNT          64 bytes there and back
 *   ask tcp ADDRESS PORT COUNT          a connection is made, and reset
 *   ask connections ADDRESS PORT SECONDS RATE    so many connections a second, 100 at a time: each sends a
 *                                       request of 100 bytes, gets 1,000 and is closed
 *   ask flood ADDRESS PORT SECONDS SIZE SEGMENT    datagrams of SIZE bytes, as fast as they are taken; with a
 *                                       SEGMENT other than 0 each send is of SIZE bytes in datagrams of SEGMENT
 *                                       (UDP_SEGMENT, as QUIC senders do)
 *   ask sink PORT SECONDS               counts what comes, from the first datagram on
 *   ask wake COUNT                      no network: core 0 asks core 1, which polls and answers at once, and blocks
 *                                       meanwhile, so that it takes as long as to wake a task of another core
 *
 * Prints the nanoseconds of each, one a line; of `connections`, how many were made and how many failed; of `flood`
 * the bytes sent, of `sink` the bytes that came and the seconds between the first and the last. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/udp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 100
#define CHECK(what) \
    do { if ((what) < 0) { perror(#what); exit(1); } } while (0)

static long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static struct sockaddr_in address_of(const char *address, const char *port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
    inet_pton(AF_INET, address, &a.sin_addr);
    return a;
}

static void answer_connection(int fd)
{
    char request[100], response[1000] = { 0 };
    for (size_t got = 0; got < sizeof request;) {
        ssize_t n = read(fd, request, sizeof request - got);
        if (n <= 0)
            _exit(0);
        got += n;
    }
    if (write(fd, response, sizeof response) < 0)
        _exit(0);
    while (read(fd, request, sizeof request) > 0)
        ;
    _exit(0);
}

static int serve(const char *port)
{
    struct sockaddr_in a = address_of("0.0.0.0", port);
    int one = 1, udp, tcp[2];
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    CHECK(udp = socket(AF_INET, SOCK_DGRAM, 0));
    CHECK(bind(udp, (void *)&a, sizeof a));
    if (fork() == 0) {
        char datagram[2048];
        socklen_t len = sizeof a;
        for (;; len = sizeof a) {
            ssize_t n = recvfrom(udp, datagram, sizeof datagram, 0, (void *)&a, &len);
            if (n >= 0)
                sendto(udp, datagram, n, 0, (void *)&a, len);
        }
    }
    for (int i = 0; i < 2; i++) {
        a = address_of("0.0.0.0", port);
        a.sin_port = htons(atoi(port) + i);
        CHECK(tcp[i] = socket(AF_INET, SOCK_STREAM, 0));
        setsockopt(tcp[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        CHECK(bind(tcp[i], (void *)&a, sizeof a));
        CHECK(listen(tcp[i], 1024));
    }
    puts("ready");
    fflush(stdout);
    if (fork() == 0)
        for (;;)
            close(accept(tcp[0], NULL, NULL));
    for (;;) {
        int fd = accept(tcp[1], NULL, NULL);
        if (fd >= 0 && fork() == 0)
            answer_connection(fd);
        close(fd);
    }
}

static int ask_udp(struct sockaddr_in to, long count)
{
    char request[64] = { 0 };
    struct timeval patience = { .tv_usec = 200000 };
    int fd;
    CHECK(fd = socket(AF_INET, SOCK_DGRAM, 0));
    CHECK(connect(fd, (void *)&to, sizeof to));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (long i = 0; i < count; i++) {
        long start = now();
        CHECK(send(fd, request, sizeof request, 0));
        if (recv(fd, request, sizeof request, 0) < 0)
            continue;
        printf("%ld\n", now() - start);
    }
    return 0;
}

static int ask_tcp(struct sockaddr_in to, long count)
{
    struct linger reset = { .l_onoff = 1 };
    for (long i = 0; i < count; i++) {
        int fd;
        CHECK(fd = socket(AF_INET, SOCK_STREAM, 0));
        long start = now();
        int connected = connect(fd, (void *)&to, sizeof to);
        if (connected == 0)
            printf("%ld\n", now() - start);
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
    }
    return 0;
}

/* One short connection at a time, at a share of the rate; exits with the number that failed. */
static int connect_repeatedly(struct sockaddr_in to, double period, long end, int pipe_fd)
{
    char request[100] = { 0 }, response[1000];
    long counts[2] = { 0 }, next = now() + (long)(drand48() * period);
    while (next < end) {
        struct timespec until = { next / 1000000000L, next % 1000000000L };
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        int fd, ok;
        CHECK(fd = socket(AF_INET, SOCK_STREAM, 0));
        ok = connect(fd, (void *)&to, sizeof to) == 0 && write(fd, request, sizeof request) == sizeof request;
        for (size_t got = 0; ok && got < sizeof response;) {
            ssize_t n = read(fd, response, sizeof response - got);
            ok = n > 0;
            got += n > 0 ? n : 0;
        }
        close(fd);
        counts[!ok]++;
        next += (long)period;
    }
    CHECK(write(pipe_fd, counts, sizeof counts));
    return 0;
}

static int connections(struct sockaddr_in to, double seconds, double rate)
{
    long counts[2], made = 0, failed = 0, end = now() + (long)(seconds * 1e9);
    int ends[2];
    CHECK(pipe(ends));
    for (int i = 0; i < AT_ONCE; i++)
        if (fork() == 0) {
            srand48(i);
            _exit(connect_repeatedly(to, 1e9 * AT_ONCE / rate, end, ends[1]));
        }
    for (int i = 0; i < AT_ONCE; i++) {
        CHECK(read(ends[0], counts, sizeof counts));
        made += counts[0];
        failed += counts[1];
    }
    printf("%ld %ld\n", made, failed);
    return 0;
}

static int flood(struct sockaddr_in to, double seconds, size_t size, int segment)
{
    static char data[65536];
    long sent = 0, end = now() + (long)(seconds * 1e9);
    int fd;
    CHECK(fd = socket(AF_INET, SOCK_DGRAM, 0));
    CHECK(connect(fd, (void *)&to, sizeof to));
    if (segment)
        CHECK(setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment));
    while (now() < end)
        for (int i = 0; i < 32; i++) {
            ssize_t n = send(fd, data, size, 0);
            sent += n > 0 ? n : 0;
        }
    printf("%ld\n", sent);
    return 0;
}

static int sink(const char *port, double seconds)
{
    static char data[65536];
    struct sockaddr_in a = address_of("0.0.0.0", port);
    struct timeval patience = { .tv_usec = 100000 };
    int fd, one = 1, room = 8 << 20;
    long bytes = 0, first = 0, last = 0, end = now() + (long)(seconds * 1e9);
    CHECK(fd = socket(AF_INET, SOCK_DGRAM, 0));
    CHECK(bind(fd, (void *)&a, sizeof a));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof one);
    puts("ready");
    fflush(stdout);
    while ((last = now()) < end) {
        ssize_t n = recv(fd, data, sizeof data, 0);
        if (n <= 0)
            continue;
        if (!first)
            first = now();
        bytes += n;
    }
    printf("%ld %f\n", bytes, first ? (last - first) / 1e9 : 0.0);
    return 0;
}

static void stay_on(int core)
{
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    CHECK(sched_setaffinity(0, sizeof cores, &cores));
}

static int ask_wake(long count)
{
    int request, answer;
    unsigned long one = 1, read_back;
    CHECK(request = eventfd(0, EFD_NONBLOCK));
    CHECK(answer = eventfd(0, 0));
    stay_on(1);
    if (fork() == 0) {
        while (count > 0)
            if (read(request, &read_back, sizeof read_back) > 0) {
                CHECK(write(answer, &one, sizeof one));
                count--;
            }
        _exit(0);
    }
    stay_on(0);
    while (count-- > 0) {
        long start = now();
        CHECK(write(request, &one, sizeof one));
        CHECK(read(answer, &read_back, sizeof read_back));
        printf("%ld\n", now() - start);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "wake"))
        return ask_wake(atol(argv[2]));
    if (argc == 3 && !strcmp(argv[1], "serve"))
        return serve(argv[2]);
    if (argc == 5 && !strcmp(argv[1], "udp"))
        return ask_udp(address_of(argv[2], argv[3]), atol(argv[4]));
    if (argc == 5 && !strcmp(argv[1], "tcp"))
        return ask_tcp(address_of(argv[2], argv[3]), atol(argv[4]));
    if (argc == 6 && !strcmp(argv[1], "connections"))
        return connections(address_of(argv[2], argv[3]), atof(argv[4]), atof(argv[5]));
    if (argc == 7 && !strcmp(argv[1], "flood"))
        return flood(address_of(argv[2], argv[3]), atof(argv[4]), atol(argv[5]), atoi(argv[6]));
    if (argc == 4 && !strcmp(argv[1], "sink"))
        return sink(argv[2], atof(argv[3]));
    fprintf(stderr, "usage: see the top of ask.c: serve PORT | udp|tcp ADDRESS PORT COUNT | ...\n");
    return 2;
}
