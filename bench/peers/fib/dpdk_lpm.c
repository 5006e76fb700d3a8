/*
 * Longest-prefix matches of DPDK, measured as fib/benches/real_table.rs measures vRouter's:
 * the same prefixes, the same address traces, one core, no NICs.
 *
 *   dpdk_lpm --no-huge -m 3000 --no-pci --lcores 0 -- DIR [lpm] [huge-pages]
 *
 * DIR holds prefixes4.txt and prefixes6.txt (ascending, "address/length" a line) and one trace
 * for each kind of traffic: uniform4.bin, in-prefix4.bin, zipf4.bin (addresses of 4 bytes in
 * host order) and uniform6.bin, in-prefix6.bin, zipf6.bin (16 bytes in network order).
 *
 * For every line on standard input it measures one round and prints one JSON object a line, then
 * an empty line; rates are millions of lookups a second. A line "bulk" asks for bulk lookups by
 * AVX-512 and the bare array alone. `compare` drives it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_lpm.h>
#include <rte_lpm6.h>
#include <rte_malloc.h>
#include <rte_memory.h>

#define BULK 32          /* what DPDK's own examples use */
#define BURST 64         /* what vRouter's packet path uses */
#define PASSES 9
#define SLICE (1 << 14)  /* lookups timed at once; the fastest of all passes counts for each */
#define UPDATES 200000   /* withdrawals, each followed by an announcement */

/* The highest next hop of each width; it also stands for "no route". */
#define WIDE 0x7fffffff
#define NARROW 0x7fff

static const char *const KINDS[] = {"uniform", "in-prefix", "zipf"};

struct prefix4 { uint32_t addr; uint8_t len; };
struct prefix6 { uint8_t addr[16]; uint8_t len; };

static struct prefix4 *prefixes4;
static struct prefix6 *prefixes6;
static size_t count4, count6;
static uint32_t *trace4[3];
static uint8_t (*trace6[3])[16];
static size_t length4[3], length6[3];
static uint64_t sink;

/*
 * Without huge pages of its own, DPDK takes its memory from a memfd, to which transparent huge
 * pages are closed unless `shmem_enabled` is changed; where there is no memfd it takes plain
 * anonymous memory. This stands in for libc's function.
 */
int memfd_create(const char *name, unsigned int flags)
{
	errno = ENOSYS;
	return -1;
}

static int advise_huge_pages(const struct rte_memseg_list *list, void *unused)
{
	return madvise(list->base_va, list->len, MADV_HUGEPAGE);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what)
{
	fprintf(stderr, "dpdk_lpm: %s: %s\n", what, rte_strerror(rte_errno));
	exit(1);
}

static void *checked(void *p)
{
	if (p == NULL)
		die("out of memory");
	return p;
}

static FILE *open_in(const char *dir, const char *name)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "rb");
	if (f == NULL) {
		perror(path);
		exit(1);
	}
	return f;
}

static void read_prefixes(const char *dir, int family)
{
	FILE *f = open_in(dir, family == AF_INET ? "prefixes4.txt" : "prefixes6.txt");
	char line[128];
	size_t room = 0;
	while (fgets(line, sizeof(line), f) != NULL) {
		char *slash = strchr(line, '/');
		if (slash == NULL)
			continue;
		*slash = 0;
		uint8_t len = (uint8_t)atoi(slash + 1);
		if (family == AF_INET) {
			if (count4 == room)
				prefixes4 = checked(realloc(prefixes4, (room = room * 2 + 1024) * sizeof(*prefixes4)));
			uint32_t addr;
			if (inet_pton(AF_INET, line, &addr) != 1)
				continue;
			prefixes4[count4++] = (struct prefix4){ntohl(addr), len};
		} else {
			if (count6 == room)
				prefixes6 = checked(realloc(prefixes6, (room = room * 2 + 1024) * sizeof(*prefixes6)));
			if (inet_pton(AF_INET6, line, prefixes6[count6].addr) != 1)
				continue;
			prefixes6[count6++].len = len;
		}
	}
	fclose(f);
}

static void *read_trace(const char *dir, const char *kind, char family, size_t width, size_t *length)
{
	char name[64];
	snprintf(name, sizeof(name), "%s%c.bin", kind, family);
	FILE *f = open_in(dir, name);
	fseek(f, 0, SEEK_END);
	size_t bytes = (size_t)ftell(f);
	rewind(f);
	void *trace = checked(malloc(bytes));
	if (fread(trace, 1, bytes, f) != bytes)
		die(name);
	fclose(f);
	*length = bytes / width / SLICE * SLICE;
	if (*length == 0 || *length > 1 << 20)
		die(name);
	return trace;
}

static void report_rate(const char *who, int family, const char *kind, const char *mode, double rate)
{
	printf("{\"who\":\"%s\",\"family\":%d,\"traffic\":\"%s\",\"mode\":\"%s\",\"mlps\":%.1f}\n",
	       who, family, kind, mode, rate);
	fflush(stdout);
}

static void report_value(const char *who, int family, const char *what, double value)
{
	printf("{\"who\":\"%s\",\"family\":%d,\"what\":\"%s\",\"value\":%.4f}\n", who, family, what, value);
	fflush(stdout);
}

/*
 * Runs `body` over the trace PASSES times; it advances `i` by itself. What disturbs the machine
 * for a while spoils some slices of some passes, hence no result.
 */
#define MEASURE(who, family, kind, mode, length, body) do {              \
	static double best[(1 << 20) / SLICE];                               \
	size_t slices = (length) / SLICE;                                    \
	for (int pass = 0; pass < PASSES; pass++) {                          \
		for (size_t slice = 0; slice < slices; slice++) {                \
			double start = now();                                        \
			for (size_t i = slice * SLICE; i < (slice + 1) * SLICE;) { body } \
			double took = now() - start;                                 \
			if (pass == 0 || took < best[slice])                         \
				best[slice] = took;                                      \
		}                                                                \
	}                                                                    \
	double sum = 0;                                                      \
	for (size_t slice = 0; slice < slices; slice++)                      \
		sum += best[slice];                                              \
	report_rate(who, family, KINDS[kind], mode, (double)(slices * SLICE) / sum / 1e6); \
} while (0)

static size_t heap_bytes(void)
{
	struct rte_malloc_socket_stats stats;
	return rte_malloc_get_socket_stats(0, &stats) == 0 ? stats.heap_allocsz_bytes : 0;
}

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t next_random(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1d;
}

/* A read of a flat array of 2^24 words with nothing around it: what memory itself allows. */
static void bare_array(bool huge_pages)
{
	size_t bytes = sizeof(uint32_t) << 24;
	uint32_t *array = checked(aligned_alloc(2 << 20, bytes));
	if (huge_pages && madvise(array, bytes, MADV_HUGEPAGE) != 0)
		die("madvise");
	for (size_t i = 0; i < 1 << 24; i++)
		array[i] = (uint32_t)i;
	for (int kind = 0; kind < 3; kind++) {
		const uint32_t *trace = trace4[kind];
		uint32_t out[BURST];
		MEASURE("bare array", 4, kind, "burst", length4[kind], {
			for (int lane = 0; lane < BURST; lane++)
				out[lane] = array[trace[i + lane] >> 8];
			__asm__ volatile("" : : "r"(out) : "memory");
			i += BURST;
		});
	}
	free(array);
}

static struct rte_fib *make_fib4(enum rte_fib_dir24_8_nh_sz width, const char *who, uint64_t mask)
{
	struct rte_fib_conf conf = {
		.type = RTE_FIB_DIR24_8, .default_nh = mask, .max_routes = 1200000,
		.dir24_8 = {.nh_sz = width, .num_tbl8 = 16384},
	};
	size_t before = heap_bytes();
	struct rte_fib *fib = rte_fib_create(who, 0, &conf);
	if (fib == NULL)
		die("rte_fib_create");
	double start = now();
	for (size_t i = 0; i < count4; i++)
		if (rte_fib_add(fib, prefixes4[i].addr, prefixes4[i].len, i % mask) != 0)
			die("rte_fib_add");
	report_value(who, 4, "load_s", now() - start);
	report_value(who, 4, "memory_mb", (double)(heap_bytes() - before) / 1e6);
	return fib;
}

static void measure_fib4(struct rte_fib *fib, const char *who, uint64_t mask, bool bulk_alone, bool everything)
{
	static const struct { enum rte_fib_lookup_type type; const char *mode; } TYPES[] = {
		{RTE_FIB_LOOKUP_DIR24_8_VECTOR_AVX512, "avx512"},
		{RTE_FIB_LOOKUP_DIR24_8_SCALAR_MACRO, "scalar"},
	};
	for (size_t t = 0; t < (bulk_alone ? 1 : RTE_DIM(TYPES)); t++) {
		if (rte_fib_select_lookup(fib, TYPES[t].type) != 0)
			continue;
		for (int kind = 0; kind < 3; kind++) {
			uint32_t *trace = trace4[kind];
			uint64_t out[BURST];
			char mode[32];
			snprintf(mode, sizeof(mode), "%s bulk %d", TYPES[t].mode, BULK);
			MEASURE(who, 4, kind, mode, length4[kind], {
				rte_fib_lookup_bulk(fib, trace + i, out, BULK);
				i += BULK;
			});
			snprintf(mode, sizeof(mode), "%s bulk %d", TYPES[t].mode, BURST);
			MEASURE(who, 4, kind, mode, length4[kind], {
				rte_fib_lookup_bulk(fib, trace + i, out, BURST);
				i += BURST;
			});
			if (everything) {
				snprintf(mode, sizeof(mode), "%s single", TYPES[t].mode);
				MEASURE(who, 4, kind, mode, length4[kind], {
					rte_fib_lookup_bulk(fib, trace + i, out, 1);
					sink += out[0];
					i += 1;
				});
			}
		}
	}
	if (everything) {
		double start = now();
		for (int n = 0; n < UPDATES; n++) {
			const struct prefix4 *p = &prefixes4[next_random() % count4];
			rte_fib_delete(fib, p->addr, p->len);
			rte_fib_add(fib, p->addr, p->len, (uint64_t)n % mask);
		}
		report_value(who, 4, "update_ops_per_s", 2 * UPDATES / (now() - start));
	}
}

static struct rte_lpm *make_lpm4(void)
{
	struct rte_lpm_config conf = {.max_rules = 1200000, .number_tbl8s = 16384};
	struct rte_lpm *lpm = rte_lpm_create("lpm4", 0, &conf);
	if (lpm == NULL)
		die("rte_lpm_create");
	double start = now();
	for (size_t i = 0; i < count4; i++)
		if (rte_lpm_add(lpm, prefixes4[i].addr, prefixes4[i].len, i & 0xffffff) != 0)
			die("rte_lpm_add");
	report_value("rte_lpm", 4, "load_s", now() - start);
	return lpm;
}

static void measure_lpm4(const struct rte_lpm *lpm)
{
	for (int kind = 0; kind < 3; kind++) {
		const uint32_t *trace = trace4[kind];
		MEASURE("rte_lpm", 4, kind, "single", length4[kind], {
			uint32_t hop = 0;
			sink += rte_lpm_lookup(lpm, trace[i], &hop) == 0 ? hop : 0;
			i += 1;
		});
		uint32_t out[BURST];
		MEASURE("rte_lpm", 4, kind, "bulk 64", length4[kind], {
			rte_lpm_lookup_bulk(lpm, trace + i, out, BURST);
			__asm__ volatile("" : : "r"(out) : "memory");
			i += BURST;
		});
	}
}

static struct rte_fib6 *make_fib6(enum rte_fib_trie_nh_sz width, const char *who, uint64_t mask)
{
	struct rte_fib6_conf conf = {
		.type = RTE_FIB6_TRIE, .default_nh = mask, .max_routes = 400000,
		.trie = {.nh_sz = width, .num_tbl8 = 1 << 19},
	};
	size_t before = heap_bytes();
	struct rte_fib6 *fib = rte_fib6_create(who, 0, &conf);
	if (fib == NULL)
		die("rte_fib6_create");
	double start = now();
	for (size_t i = 0; i < count6; i++)
		if (rte_fib6_add(fib, prefixes6[i].addr, prefixes6[i].len, i % mask) != 0)
			die("rte_fib6_add");
	report_value(who, 6, "load_s", now() - start);
	report_value(who, 6, "memory_mb", (double)(heap_bytes() - before) / 1e6);
	return fib;
}

static void measure_fib6(struct rte_fib6 *fib, const char *who, uint64_t mask, bool bulk_alone)
{
	static const struct { enum rte_fib6_lookup_type type; const char *mode; } TYPES[] = {
		{RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512, "avx512"},
		{RTE_FIB6_LOOKUP_TRIE_SCALAR, "scalar"},
	};
	for (size_t t = 0; t < (bulk_alone ? 1 : RTE_DIM(TYPES)); t++) {
		if (rte_fib6_select_lookup(fib, TYPES[t].type) != 0)
			continue;
		for (int kind = 0; kind < 3; kind++) {
			uint8_t (*trace)[16] = trace6[kind];
			uint64_t out[BURST];
			char mode[32];
			snprintf(mode, sizeof(mode), "%s bulk %d", TYPES[t].mode, BULK);
			MEASURE(who, 6, kind, mode, length6[kind], {
				rte_fib6_lookup_bulk(fib, trace + i, out, BULK);
				i += BULK;
			});
			snprintf(mode, sizeof(mode), "%s bulk %d", TYPES[t].mode, BURST);
			MEASURE(who, 6, kind, mode, length6[kind], {
				rte_fib6_lookup_bulk(fib, trace + i, out, BURST);
				i += BURST;
			});
			if (bulk_alone)
				continue;
			snprintf(mode, sizeof(mode), "%s single", TYPES[t].mode);
			MEASURE(who, 6, kind, mode, length6[kind], {
				rte_fib6_lookup_bulk(fib, trace + i, out, 1);
				sink += out[0];
				i += 1;
			});
		}
	}
	if (bulk_alone)
		return;
	double start = now();
	for (int n = 0; n < UPDATES / 4; n++) {
		struct prefix6 *p = &prefixes6[next_random() % count6];
		rte_fib6_delete(fib, p->addr, p->len);
		rte_fib6_add(fib, p->addr, p->len, (uint64_t)n % mask);
	}
	report_value(who, 6, "update_ops_per_s", UPDATES / 2 / (now() - start));
}

int main(int argc, char **argv)
{
	int used = rte_eal_init(argc, argv);
	if (used < 0)
		die("rte_eal_init");
	if (argc - used < 2) {
		fprintf(stderr, "usage: dpdk_lpm EAL-OPTIONS -- DIR [lpm] [huge-pages]\n");
		return 2;
	}
	const char *dir = argv[used + 1];
	/* rte_lpm takes more than a minute to load the table. */
	bool with_lpm = false, huge_pages = false;
	for (int i = used + 2; i < argc; i++) {
		with_lpm |= strcmp(argv[i], "lpm") == 0;
		huge_pages |= strcmp(argv[i], "huge-pages") == 0;
	}
	if (huge_pages && rte_memseg_list_walk(advise_huge_pages, NULL) != 0)
		die("madvise");
	read_prefixes(dir, AF_INET);
	read_prefixes(dir, AF_INET6);
	for (int kind = 0; kind < 3; kind++) {
		trace4[kind] = read_trace(dir, KINDS[kind], '4', 4, &length4[kind]);
		trace6[kind] = read_trace(dir, KINDS[kind], '6', 16, &length6[kind]);
	}
	struct rte_fib *wide = make_fib4(RTE_FIB_DIR24_8_4B, "rte_fib 4 B", WIDE);
	struct rte_fib *narrow = make_fib4(RTE_FIB_DIR24_8_2B, "rte_fib 2 B", NARROW);
	struct rte_fib6 *six = make_fib6(RTE_FIB6_TRIE_4B, "rte_fib6 4 B", WIDE);
	struct rte_lpm *lpm = with_lpm ? make_lpm4() : NULL;
	char line[64];
	puts("");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		bool bulk_alone = strcmp(line, "bulk\n") == 0;
		bare_array(huge_pages);
		measure_fib4(wide, "rte_fib 4 B", WIDE, bulk_alone, !bulk_alone);
		measure_fib4(narrow, "rte_fib 2 B", NARROW, bulk_alone, false);
		if (lpm != NULL)
			measure_lpm4(lpm);
		measure_fib6(six, "rte_fib6 4 B", WIDE, bulk_alone);
		puts("");
		fflush(stdout);
	}
	fprintf(stderr, "checksum %" PRIu64 "\n", sink);
	return 0;
}
