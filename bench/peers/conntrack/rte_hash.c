/* What DPDK's hash table costs at the work of a flow table: 1,000,000 flows in a table for 1,048,576, keys of 16
 * bytes (two IPv4 addresses, two ports, protocol, zone), CRC32 hash, looked up in bulks.
 *
 *     rte_hash ROUNDS [small]      small: 4 KiB pages; otherwise huge pages, 256 of which must be reserved
 *
 * Prints one line a measurement, as the flow table's own bench does. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <time.h>

#include <rte_eal.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_cycles.h>

#define FLOWS 1000000u
#define CAPACITY (1u << 20)
#define COUNT (1u << 20)
#define BULK 32

struct key {
	uint32_t src, dst;
	uint16_t sport, dport;
	uint8_t protocol, family;
	uint16_t zone;
};
_Static_assert(sizeof(struct key) == 16, "16 bytes");

static uint64_t state;

static uint64_t next_random(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 0x2545f4914f6cdd1dull;
}

/* The same flows as in the flow table's bench. */
static struct key flow(uint32_t n)
{
	struct key key = {
		.src = 0x0a642400 + (n & 0xff),
		.dst = 0x0a600000 + (n >> 8 & 0x3ff),
		.sport = 32768 + (n >> 18 & 0x3fff),
		.dport = 80 + (n >> 16 & 3),
		.protocol = 17,
		.family = 4,
	};
	return key;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void report(const char *name, double ns, double cycles, double least)
{
	printf("%s %.2f M/s %.2f ns %.1f cycles (least %.2f ns)\n", name, 1000 / ns, ns, cycles, least);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Looks all keys up, `rounds` times, in parts that are each short enough to run without interruption; prints the
 * median of the parts. */
static void lookup(const char *name, struct rte_hash *table, const struct key *keys, int rounds, int hits)
{
	enum { PART = 32768 };
	int parts = COUNT / PART * rounds;
	double *times = malloc(sizeof(double) * parts);
	double *cycles = malloc(sizeof(double) * parts);
	uint64_t found = 0;
	for (int part = 0; part < parts; part++) {
		uint32_t first = (uint32_t)part * PART % COUNT;
		double start = now();
		uint64_t from = rte_rdtsc();
		for (uint32_t at = first; at < first + PART; at += BULK) {
			const void *pointers[BULK];
			int32_t positions[BULK];
			for (int i = 0; i < BULK; i++)
				pointers[i] = &keys[at + i];
			rte_hash_lookup_bulk(table, pointers, BULK, positions);
			for (int i = 0; i < BULK; i++)
				found += positions[i] >= 0;
		}
		cycles[part] = (double)(rte_rdtsc() - from) / PART;
		times[part] = (now() - start) / PART;
	}
	if (found != (hits ? (uint64_t)COUNT * rounds : 0)) {
		fprintf(stderr, "%s: %lu found\n", name, found);
		exit(1);
	}
	qsort(times, parts, sizeof(double), by_size);
	qsort(cycles, parts, sizeof(double), by_size);
	report(name, times[parts / 2], cycles[parts / 2], times[0]);
	free(times);
	free(cycles);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 7;
	int small = argc > 2 && strcmp(argv[2], "small") == 0;
	char *small_pages[] = {"rte_hash", "--no-huge", "-m", "512", "--no-pci", "--no-shconf", "--no-telemetry", "-l", "0", NULL};
	char *huge_pages[] = {"rte_hash", "--in-memory", "-m", "512", "--no-pci", "--no-telemetry", "-l", "0", NULL};
	char **eal = small ? small_pages : huge_pages;
	int arguments = 0;
	while (eal[arguments])
		arguments++;
	if (rte_eal_init(arguments, eal) < 0) {
		fprintf(stderr, "no EAL\n");
		return 1;
	}

	struct rte_hash_parameters parameters = {
		.name = "flows",
		.entries = CAPACITY,
		.key_len = sizeof(struct key),
		.hash_func = rte_hash_crc,
		.hash_func_init_val = 0x1234567,
		.socket_id = SOCKET_ID_ANY,
	};
	struct rte_hash *table = rte_hash_create(&parameters);
	struct key *keys = malloc(sizeof(struct key) * COUNT);
	if (!table || !keys)
		return 1;

	double best[2] = {1e18, 1e18};
	for (int round = 0; round < rounds; round++) {
		double start = now();
		for (uint32_t n = 0; n < FLOWS; n++) {
			struct key key = flow(n);
			if (rte_hash_add_key(table, &key) < 0)
				return 1;
		}
		double ns = (now() - start) / FLOWS;
		best[0] = ns < best[0] ? ns : best[0];
		if (round + 1 == rounds)
			break;
		start = now();
		for (uint32_t n = 0; n < FLOWS; n++) {
			struct key key = flow(n);
			if (rte_hash_del_key(table, &key) < 0)
				return 1;
		}
		ns = (now() - start) / FLOWS;
		best[1] = ns < best[1] ? ns : best[1];
	}
	report("create", best[0], 0, best[0]);
	report("remove", best[1], 0, best[1]);

	state = 1;
	for (uint32_t i = 0; i < COUNT; i++)
		keys[i] = flow(next_random() % FLOWS);
	lookup("lookup-uniform", table, keys, rounds, 1);
	for (uint32_t i = 0; i < COUNT; i++)
		keys[i].dport = 443;
	lookup("lookup-miss", table, keys, rounds, 0);
	state = 2;
	for (uint32_t i = 0; i < COUNT; i++) {
		double unit = (double)(next_random() >> 11) / (double)(1ull << 53);
		uint64_t rank = pow(FLOWS, unit);
		keys[i] = flow(rank * 0x9e3779b1ull % FLOWS);
	}
	lookup("lookup-zipf", table, keys, rounds, 1);

	/* 90 % full, every flow replaced once. */
	uint32_t live = CAPACITY / 10 * 9;
	rte_hash_reset(table);
	for (uint32_t n = 0; n < live; n++) {
		struct key key = flow(n);
		rte_hash_add_key(table, &key);
	}
	for (uint32_t n = 0; n < live; n++) {
		struct key old = flow(n), new = flow(n + live);
		if (rte_hash_del_key(table, &old) < 0 || rte_hash_add_key(table, &new) < 0)
			return 1;
	}
	state = 3;
	for (uint32_t i = 0; i < COUNT; i++)
		keys[i] = flow(live + next_random() % live);
	lookup("lookup-90-churn", table, keys, rounds, 1);
	return 0;
}
