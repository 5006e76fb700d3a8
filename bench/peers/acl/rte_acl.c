/* What DPDK's access lists cost: rules and headers from files, the best of its ways to classify.
 *
 *     rte_acl RULES HEADERS ROUNDS
 *
 * RULES, a line a rule, the first is the most important:
 *     @SRC/LEN DST/LEN LOW : HIGH LOW : HIGH PROTOCOL/MASK       (ClassBench)
 * HEADERS, a line a packet:
 *     SRC DST SPORT DPORT PROTOCOL ...                           (numbers)
 *
 * Prints the time of the build, the memory, a line for each way, and a checksum of the rules found. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_acl.h>
#include <rte_byteorder.h>
#include <rte_eal.h>
#include <rte_malloc.h>

enum { PROTO, SRC, DST, SPORT, DPORT, FIELDS };

struct header {
	uint8_t proto;
	uint32_t src, dst;
	uint16_t sport, dport;
} __attribute__((packed));

static struct rte_acl_field_def fields[FIELDS] = {
	{RTE_ACL_FIELD_TYPE_BITMASK, 1, PROTO, 0, 0},
	{RTE_ACL_FIELD_TYPE_MASK, 4, SRC, 1, 1},
	{RTE_ACL_FIELD_TYPE_MASK, 4, DST, 2, 5},
	{RTE_ACL_FIELD_TYPE_RANGE, 2, SPORT, 3, 9},
	{RTE_ACL_FIELD_TYPE_RANGE, 2, DPORT, 3, 11},
};

RTE_ACL_RULE_DEF(rule, FIELDS);

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

/* Bytes of DPDK's heap in use. */
static size_t in_use(void)
{
	struct rte_malloc_socket_stats stats;
	return rte_malloc_get_socket_stats(0, &stats) == 0 ? stats.heap_allocsz_bytes : 0;
}

static void fail(const char *what)
{
	fprintf(stderr, "rte_acl: %s\n", what);
	exit(1);
}

static struct rule *read_rules(const char *path, uint32_t *count)
{
	FILE *file = fopen(path, "r");
	char line[256];
	uint32_t room = 1 << 16;
	struct rule *rules = calloc(room, sizeof(*rules));
	if (!file || !rules)
		fail(path);
	for (*count = 0; fgets(line, sizeof(line), file); (*count)++) {
		uint32_t s[5], d[5], sp[2], dp[2], proto, mask;
		if (*count == room)
			fail("too many rules");
		if (sscanf(line, "@%u.%u.%u.%u/%u %u.%u.%u.%u/%u %u : %u %u : %u %x/%x", s, s + 1, s + 2, s + 3, s + 4, d,
			   d + 1, d + 2, d + 3, d + 4, sp, sp + 1, dp, dp + 1, &proto, &mask) != 16)
			fail(line);
		struct rule *r = rules + *count;
		r->data.category_mask = 1;
		r->data.priority = RTE_ACL_MAX_PRIORITY - (int)*count;
		r->data.userdata = *count + 1;
		r->field[PROTO].value.u8 = proto;
		r->field[PROTO].mask_range.u8 = mask;
		r->field[SRC].value.u32 = s[0] << 24 | s[1] << 16 | s[2] << 8 | s[3];
		r->field[SRC].mask_range.u32 = s[4];
		r->field[DST].value.u32 = d[0] << 24 | d[1] << 16 | d[2] << 8 | d[3];
		r->field[DST].mask_range.u32 = d[4];
		r->field[SPORT].value.u16 = sp[0];
		r->field[SPORT].mask_range.u16 = sp[1];
		r->field[DPORT].value.u16 = dp[0];
		r->field[DPORT].mask_range.u16 = dp[1];
	}
	fclose(file);
	return rules;
}

static struct header *read_headers(const char *path, uint32_t *count)
{
	FILE *file = fopen(path, "r");
	char line[256];
	uint32_t room = 1 << 20;
	struct header *headers = calloc(room, sizeof(*headers));
	if (!file || !headers)
		fail(path);
	for (*count = 0; *count < room && fgets(line, sizeof(line), file); (*count)++) {
		uint32_t src, dst, sport, dport, proto;
		if (sscanf(line, "%u %u %u %u %u", &src, &dst, &sport, &dport, &proto) != 5)
			fail(line);
		headers[*count] = (struct header){
			proto, rte_cpu_to_be_32(src), rte_cpu_to_be_32(dst), rte_cpu_to_be_16(sport), rte_cpu_to_be_16(dport)};
	}
	fclose(file);
	return headers;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	char *eal[] = {"rte_acl", "--no-huge", "-m", "1024", "--no-pci", "--no-shconf", "--no-telemetry",
		       "--log-level=error", "-l", "0", NULL};
	if (argc < 4)
		fail("RULES HEADERS ROUNDS");
	if (rte_eal_init(10, eal) < 0)
		fail("no EAL");
	uint32_t rule_count, count;
	struct rule *rules = read_rules(argv[1], &rule_count);
	struct header *headers = read_headers(argv[2], &count);
	int rounds = atoi(argv[3]);

	struct rte_acl_param parameters = {
		.name = "list", .rule_size = RTE_ACL_RULE_SZ(FIELDS), .max_rule_num = rule_count, .socket_id = SOCKET_ID_ANY};
	struct rte_acl_ctx *list = rte_acl_create(&parameters);
	if (!list || rte_acl_add_rules(list, (struct rte_acl_rule *)rules, rule_count) != 0)
		fail("rules refused");
	struct rte_acl_config config = {.num_categories = 1, .num_fields = FIELDS};
	memcpy(config.defs, fields, sizeof(fields));
	size_t before = in_use();
	double start = now();
	if (rte_acl_build(list, &config) != 0)
		fail("no build");
	printf("build %.3f s memory %zu KiB\n", (now() - start) / 1e9, (in_use() - before) / 1024);

	const uint8_t **data = malloc(sizeof(*data) * count);
	uint32_t *results = calloc(count, sizeof(*results));
	double *times = malloc(sizeof(*times) * rounds);
	for (uint32_t i = 0; i < count; i++)
		data[i] = (const uint8_t *)&headers[i];
	static const struct { enum rte_acl_classify_alg alg; const char *name; } ways[] = {
		{RTE_ACL_CLASSIFY_SSE, "sse"},
		{RTE_ACL_CLASSIFY_AVX2, "avx2"},
		{RTE_ACL_CLASSIFY_AVX512X16, "avx512x16"},
		{RTE_ACL_CLASSIFY_AVX512X32, "avx512x32"},
	};
	double best = 0;
	uint64_t sum = 0;
	for (unsigned int way = 0; way < RTE_DIM(ways); way++) {
		if (rte_acl_set_ctx_classify(list, ways[way].alg) != 0)
			continue;
		for (int round = 0; round < rounds; round++) {
			start = now();
			for (uint32_t at = 0; at < count; at += 64)
				rte_acl_classify(list, data + at, results + at, RTE_MIN(64u, count - at), 1);
			times[round] = (now() - start) / count;
		}
		qsort(times, rounds, sizeof(*times), by_size);
		double rate = 1000 / times[rounds / 2];
		printf("%s %.1f M/s\n", ways[way].name, rate);
		best = RTE_MAX(best, rate);
	}
	for (uint32_t i = 0; i < count; i++)
		sum = sum * 31 + results[i];
	printf("best %.1f M/s\nfound %016" PRIx64 "\n", best, sum);
	return 0;
}
