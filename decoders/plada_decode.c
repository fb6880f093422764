/* Decode a payload file: an independent reader in C99, written from docs/payload-format.md and
   docs/payload-coders.md alone. No dependency, whole numbers of at most 64 bits.

       cc -std=c99 -O2 -o plada_decode plada_decode.c
       plada_decode FILE [--blocks BOUNDS] [--pack PACK] [--partial]

   prints CSV: position,label. BOUNDS is a text file of whole numbers, the B+1 bounds of blocks, or a JSON list of them.
   Coders 3 to 6, whole or in segments. Not here (refused as unsupported): coders 1 and 2, which need a Zstandard
   decoder; changes. Names and notes are not looked into; a signature is not verified, nor a pack's id.

   A refusal is one line on standard error, "KIND: what", and exit status 1; KIND is that of section 11. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;
typedef uint8_t u8;
typedef uint32_t u32;

static void refuse(const char *kind, const char *what)
{
    fprintf(stderr, "%s: %s\n", kind, what);
    exit(1);
}

static void need(int holds, const char *what)
{
    if (!holds)
        refuse("corrupt", what);
}

/* Zeroed memory. All of it is kept in a list and given back by the system at the end. */
struct held { struct held *next; i64 pad; };
static struct held *all_held;

static void *alloc(i64 n, size_t size)
{
    struct held *h;
    if (n < 0 || (uint64_t)n > (SIZE_MAX - sizeof *h) / size)
        refuse("memory", "too much is asked for");
    h = calloc(1, sizeof *h + (size_t)n * size);
    if (!h)
        refuse("memory", "no more");
    h->next = all_held;
    all_held = h;
    return h + 1;
}

static i64 clamp(i64 v, i64 lo, i64 hi) { return v < lo ? lo : v > hi ? hi : v; }
static i64 shr(i64 v, int n) { return v >= 0 ? v >> n : ~(~v >> n); } /* rounds down */
static int bits(i64 n) { int b = 0; while (n > 0) { b++; n >>= 1; } return b; }

/* ---- bytes ---------------------------------------------------------------------------------------------------- */

struct bytes { const u8 *at, *end; };
static const char *short_kind = "corrupt"; /* what it is when bytes end too early */

static const u8 *take(struct bytes *b, i64 n)
{
    const u8 *at = b->at;
    if (n < 0 || n > b->end - b->at)
        refuse(short_kind, "the bytes end too early");
    b->at += n;
    return at;
}

static u32 get32(const u8 *p) { return p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24; }

static i64 varint(struct bytes *b, i64 lo, i64 hi, const char *what)
{
    i64 v = 0;
    int i;
    for (i = 0; i < 5; i++) {
        u8 byte = *take(b, 1);
        v |= (i64)(byte & 127) << (7 * i);
        if (byte < 128) {
            need(byte > 0 || i == 0, "a number with a last byte of 0");
            need(v >= lo && v <= hi, what);
            return v;
        }
    }
    refuse("corrupt", "a number of more than 5 bytes");
    return 0;
}

static u32 crc32(u32 crc, const u8 *p, i64 n) /* begins with crc = 0 */
{
    static u32 table[256];
    u32 i, j;
    if (!table[1])
        for (i = 0; i < 256; i++) {
            table[i] = i;
            for (j = 0; j < 8; j++)
                table[i] = table[i] & 1 ? table[i] >> 1 ^ 0xEDB88320u : table[i] >> 1;
        }
    crc = ~crc;
    while (n-- > 0)
        crc = table[(crc ^ *p++) & 255] ^ crc >> 8;
    return ~crc;
}

/* ---- payload-coders.md section 2: tables ---------------------------------------------------------------------------- */

enum { TOP = 2839, LIMBS = 6 };
static i64 SQ_[2 * TOP + 1], EXP_[2 * TOP + 1], ST_[65536], LN_[1024];

/* The entries of NB, made by decoders/plada_decode.py, which compares their SHA-256 with the document's. */
static const short NB_[780] = {
    -2839, -2662, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2485, -2839, -2839,
    -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2662, -2428, -2839, -2839, -2839, -2839, -2839, -2839,
    -2839, -2839, -2839, -2839, -2558, -2307, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839,
    -2485, -2226, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2381, -2130, -2839, -2839,
    -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2277, -2037, -2839, -2839, -2839, -2839, -2839, -2839,
    -2839, -2839, -2839, -2839, -2183, -1952, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839,
    -2100, -1859, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2005, -1771, -2839, -2839,
    -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -1922, -1682, -2839, -2839, -2839, -2839, -2839, -2839,
    -2839, -2839, -2839, -2839, -1833, -1595, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839,
    -1741, -1507, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -1653, -1418, -2839, -2839,
    -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -1565, -1330, -2558, -2839, -2839, -2839, -2839, -2839,
    -2839, -2839, -2839, -2839, -1477, -1242, -2381, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839,
    -1390, -1154, -2203, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -1302, -1067, -2037, -2839,
    -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -1215, -979, -1859, -2839, -2839, -2839, -2839, -2839,
    -2839, -2839, -2839, -2839, -1128, -892, -1687, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839,
    -1042, -806, -1521, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -957, -719, -1357, -2662,
    -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -872, -634, -1197, -2307, -2839, -2839, -2839, -2839,
    -2839, -2839, -2839, -2839, -789, -549, -1043, -1977, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839,
    -708, -465, -895, -1690, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -628, -384, -755, -1423, -2839,
    -2839, -2839, -2839, -2839, -2839, -2839, -2839, -552, -304, -624, -1179, -2250, -2839, -2839, -2839, -2839,
    -2839, -2839, -2839, -478, -226, -502, -960, -1818, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -408, -151,
    -389, -767, -1449, -2839, -2839, -2839, -2839, -2839, -2839, -2839, -342, -80, -285, -599, -1138, -2183, -2839,
    -2839, -2839, -2839, -2839, -2839, -280, -12, -191, -453, -881, -1668, -2839, -2839, -2839, -2839, -2839, -2839,
    -222, 54, -104, -327, -670, -1271, -2485, -2839, -2839, -2839, -2839, -2839, -168, 114, -25, -216, -497, -960,
    -1823, -2839, -2839, -2839, -2839, -2839, -117, 171, 48, -119, -353, -716, -1359, -2662, -2839, -2839, -2839,
    -2839, -70, 225, 115, -33, -232, -524, -1009, -1922, -2839, -2839, -2839, -2839, -26, 275, 176, 45, -128, -370,
    -745, -1413, -2839, -2839, -2839, -2839, 16, 322, 232, 115, -38, -242, -541, -1040, -1986, -2839, -2839, -2839,
    56, 366, 285, 179, 43, -134, -379, -762, -1447, -2839, -2839, -2839, 93, 408, 334, 237, 115, -41, -248, -551,
    -1058, -2026, -2839, -2839, 128, 447, 379, 291, 180, 42, -138, -386, -773, -1468, -2839, -2839, 162, 485, 422,
    341, 239, 115, -43, -252, -558, -1071, -2048, -2839, 195, 521, 463, 387, 294, 180, 40, -141, -390, -781, -1482,
    -2839, 226, 555, 501, 431, 344, 240, 114, -45, -255, -563, -1080, -2060, 257, 588, 538, 472, 391, 295, 180, 39,
    -143, -394, -787, -1493, 286, 620, 573, 510, 435, 345, 240, 113, -47, -258, -567, -1087, 315, 651, 606, 547, 476,
    392, 295, 179, 38, -145, -397, -792, 343, 681, 638, 582, 515, 436, 346, 239, 112, -49, -260, -571, 370, 710, 669,
    616, 552, 478, 393, 294, 178, 36, -147, -400, 397, 738, 700, 648, 587, 517, 437, 345, 239, 111, -50, -262, 424,
    766, 729, 680, 621, 554, 478, 393, 294, 177, 35, -148, 450, 793, 758, 710, 654, 589, 517, 437, 345, 238, 109,
    -52, 475, 820, 785, 740, 685, 623, 555, 478, 392, 293, 176, 34, 500, 846, 813, 768, 715, 656, 590, 517, 436, 344,
    237, 108, 525, 872, 840, 796, 745, 687, 624, 555, 478, 391, 292, 175, 550, 897, 866, 824, 774, 718, 657, 590,
    517, 436, 343, 236, 575, 923, 892, 851, 802, 747, 688, 624, 554, 477, 391, 291, 599, 947, 917, 877, 829, 776,
    719, 657, 590, 517, 435, 343, 623, 972, 943, 903, 856, 804, 748, 688, 624, 554, 477, 390, 647, 996, 968, 929,
    883, 832, 777, 719, 657, 590, 516, 434, 670, 1020, 992, 954, 909, 859, 805, 749, 688, 624, 553, 476, 694, 1044,
    1017, 979, 934, 885, 833, 777, 719, 656, 589, 516, 717, 1068, 1041, 1004, 960, 911, 860, 806, 748, 688, 623, 553,
    741, 1092, 1065, 1028, 984, 937, 886, 833, 777, 719, 656, 589, 764, 1115, 1089, 1052, 1009, 962, 912, 860, 806,
    748, 687, 623, 787, 1139, 1112, 1076, 1034, 987, 938, 887, 833, 777, 718, 655
};

typedef struct { u32 w[LIMBS]; } big; /* 192 bits, least significant limb first */

static big times(big a, u32 m)
{
    uint64_t carry = 0;
    int i;
    for (i = 0; i < LIMBS; i++) {
        carry += (uint64_t)a.w[i] * m;
        a.w[i] = (u32)carry;
        carry >>= 32;
    }
    return a;
}

static big plus(big a, big b)
{
    uint64_t carry = 0;
    int i;
    for (i = 0; i < LIMBS; i++) {
        carry += (uint64_t)a.w[i] + b.w[i];
        a.w[i] = (u32)carry;
        carry >>= 32;
    }
    return a;
}

static int at_most(big a, big b) /* a <= b */
{
    int i;
    for (i = LIMBS - 1; i >= 0; i--)
        if (a.w[i] != b.w[i])
            return a.w[i] < b.w[i];
    return 1;
}

static big product_shifted(big a, big b) /* (a b) >> 64 */
{
    big sum = {{0}};
    int i, j;
    for (i = 0; i < LIMBS; i++) {
        big part = times(a, b.w[i]), moved = {{0}};
        for (j = 0; j + i < LIMBS; j++)
            moved.w[j + i] = part.w[j];
        sum = plus(sum, moved);
    }
    for (i = 0; i < LIMBS; i++)
        sum.w[i] = i + 2 < LIMBS ? sum.w[i + 2] : 0;
    return sum;
}

static i64 quotient(big a, big b) /* a // b, below 2^25 */
{
    u32 q = 0, bit;
    for (bit = 1u << 24; bit; bit >>= 1)
        if (at_most(times(b, q | bit), a))
            q |= bit;
    return q;
}

static void make_tables(void)
{
    big one = {{0, 0, 1}}, term = one, g = one, two88 = {{0, 0, 1u << 24}}, *x = alloc(TOP + 1, sizeof *x);
    int n, s, p, m, i;
    for (n = 1;; n++) {
        uint64_t rest = 0;
        int more = 0;
        for (i = LIMBS - 1; i >= 0; i--) { /* term = term // (256 n) */
            rest = rest << 32 | term.w[i];
            term.w[i] = (u32)(rest / (256u * (u32)n));
            rest %= 256u * (u32)n;
            more |= term.w[i] != 0;
        }
        if (!more)
            break;
        g = plus(g, term);
    }
    x[0] = one;
    for (s = 0; s < TOP; s++)
        x[s + 1] = product_shifted(x[s], g);
    for (s = 0; s <= TOP; s++) {
        i64 q = quotient(times(x[s], 65536), plus(x[s], one));
        SQ_[TOP + s] = q < 65535 ? q : 65535;
        EXP_[TOP + s] = (i64)(x[s].w[1] >> 8 | (uint64_t)x[s].w[2] << 24);
        if (s) {
            SQ_[TOP - s] = 65536 - SQ_[TOP + s];
            EXP_[TOP - s] = quotient(two88, x[s]);
        }
    }
    /* X[s] (65536 - p) >= p ONE is the same as SQ(s) >= p. */
    for (p = 32768, s = 0; p < 65536; p++) {
        while (s < TOP && SQ_[TOP + s] < p)
            s++;
        ST_[p] = s;
        ST_[65536 - p] = p > 32768 ? -s : s;
    }
    ST_[0] = -TOP;
    for (m = 0, s = 0; m < 1024; m++) {
        while (!at_most(times(one, 1024 + (u32)m), times(x[s], 1024)))
            s++;
        LN_[m] = s;
    }
}

static i64 SQ(i64 s) { return SQ_[clamp(s, -TOP, TOP) + TOP]; }
static i64 EXP(i64 s) { return EXP_[clamp(s, -TOP, TOP) + TOP]; }

static i64 ln(i64 v)
{
    int b = bits(v) - 1;
    i64 top = b >= 10 ? v >> (b - 10) : v << (10 - b);
    return LN_[top - 1024] + (((i64)b * 45426) >> 8);
}

/* ---- section 3: arithmetic coder, slots --------------------------------------------------------------------------- */

struct coder { const u8 *data; i64 size, taken; u32 low, high, window; };
struct slot { i64 v; int n, limit; };

static u8 next_byte(struct coder *c)
{
    u8 byte = c->taken < c->size ? c->data[c->taken] : 0;
    c->taken++;
    return byte;
}

static struct coder coder_of(struct bytes b)
{
    struct coder c = {b.at, b.end - b.at, 0, 0, 0xFFFFFFFFu, 0};
    int i;
    for (i = 0; i < 4; i++)
        c.window = c.window << 8 | next_byte(&c);
    return c;
}

static int decode_bit(struct coder *c, i64 p)
{
    u32 r = c->high - c->low;
    u32 mid = c->low + (r >> 16) * (u32)p + (((r & 65535) * (u32)p) >> 16);
    int bit = c->window <= mid;
    if (bit)
        c->high = mid;
    else
        c->low = mid + 1;
    while (c->low >> 24 == c->high >> 24) {
        c->window = c->window << 8 | next_byte(c);
        c->low <<= 8;
        c->high = c->high << 8 | 255;
    }
    return bit;
}

static struct slot slot_from(i64 p, int n, int limit)
{
    struct slot s = {0, 0, 0};
    s.v = p << 6;
    s.n = n;
    s.limit = limit;
    return s;
}

static i64 slot_p(const struct slot *s) { return clamp(s->v >> 6, 1, 65535); }

static void slot_learn(struct slot *s, int bit)
{
    s->v += shr((((i64)bit << 22) - s->v) * (131072 / (2 * s->n + 3)), 16);
    if (s->n < s->limit)
        s->n++;
}

static int slot_bit(struct coder *c, struct slot *s)
{
    int bit = decode_bit(c, slot_p(s));
    slot_learn(s, bit);
    return bit;
}

static void coder_end(const struct coder *c) { need(c->taken >= c->size, "coded bytes that are not used"); }

/* ---- contents ------------------------------------------------------------------------------------------------------- */

struct content { u32 *position; u32 *label; i64 n, room; };

static void push(struct content *out, i64 position, i64 label)
{
    if (out->n == out->room) { /* what is left behind stays in the list of alloc: as much again at most */
        i64 room = out->room ? 2 * out->room : 1024;
        u32 *position2 = alloc(room, sizeof *position2), *label2 = alloc(room, sizeof *label2);
        if (out->n) {
            memcpy(position2, out->position, (size_t)out->n * sizeof *position2);
            memcpy(label2, out->label, (size_t)out->n * sizeof *label2);
        }
        out->position = position2;
        out->label = label2;
        out->room = room;
    }
    out->position[out->n] = (u32)position;
    out->label[out->n++] = (u32)label;
}

struct reference {
    i64 images, classes;
    const i64 *bounds; /* blocks + 1, or none */
    i64 blocks;
    int pack_named;
    i64 d; /* 0 without a pack */
    const signed char *features;
};

static i64 tree_width(i64 classes) { i64 w = 1; while (w < classes) w *= 2; return w; }

static void tree_add(i64 *tree, i64 leaf, i64 amount)
{
    for (; leaf; leaf >>= 1)
        tree[leaf] += amount;
}

static void reweigh(i64 *w, const i64 *p, int n, i64 floor_)
{
    i64 s = 0, total = 0;
    int i;
    for (i = 0; i < n; i++)
        s += w[i] * p[i];
    s = (s >> 20) + 1;
    for (i = 0; i < n; i++) {
        w[i] = w[i] * p[i] / s;
        w[i] = w[i] - (w[i] >> 7) + floor_;
        total += w[i];
    }
    for (i = 0; i < n; i++)
        w[i] = (w[i] << 20) / total;
}

/* ---- section 4: coders 3 and 5 ---------------------------------------------------------------------------------------- */

static void numbers_begin(struct slot *slots)
{
    int i;
    for (i = 0; i < 780; i++)
        slots[i] = slot_from(SQ(NB_[i]), 4, 250);
}

static i64 number(struct coder *c, struct slot *slots, i64 most, i64 a, i64 b)
{
    i64 v = (a << 16) / b, q = v ? clamp(ln(v) / 88, 0, 64) : 0, n;
    int ones = 0, d;
    while (ones < bits(most) && slot_bit(c, &slots[12 * q + (ones < 11 ? ones : 11)]))
        ones++;
    if (ones < 2)
        return ones;
    n = 1;
    for (d = ones - 2; d >= 0; d--)
        n = 2 * n + ((2 * n + 1) << d > most ? 0 : decode_bit(c, 32768));
    return n;
}

static void class_counts(struct coder *c, i64 k, i64 classes, i64 *counts)
{
    struct slot slots[780], a[3], b[3];
    i64 x = 1, largest, left = k, class_;
    int ones = 0, before = 0, i;
    if (classes == 1) {
        counts[0] = k;
        return;
    }
    numbers_begin(slots);
    while (decode_bit(c, 32768))
        need(++ones <= 31, "a class count of more than 32 bits");
    for (i = 0; i < ones; i++)
        x = 2 * x + decode_bit(c, 32768);
    largest = x - 1 + (k + classes - 1) / classes;
    for (i = 0; i < 3; i++)
        a[i] = b[i] = slot_from(32768, 1, 250);
    for (class_ = 0; class_ < classes - 1; class_++) {
        i64 n;
        if (largest <= left && slot_bit(c, &a[before])) {
            n = largest;
            before = 0;
        } else if (largest >= 1 && largest - 1 <= left && slot_bit(c, &b[before])) {
            n = largest - 1;
            before = 1;
        } else {
            n = number(c, slots, clamp(largest - 2, 0, left), left, classes - class_);
            before = 2;
        }
        left -= n;
        counts[class_] = n;
    }
    counts[classes - 1] = left;
}

struct labels { i64 w, *o, *r, *t, *h, weights[7]; };

static i64 tree_value(const struct labels *l, i64 v, const i64 *f)
{
    return f[0] * l->o[v] + f[1] * l->r[v] + f[2] * l->t[v] + f[3] * l->h[v];
}

static i64 label(struct coder *c, struct labels *l)
{
    i64 m[4], d[4], p[7], f[4], *w = l->weights, *o = l->o, *r = l->r, *t = l->t, *h = l->h;
    i64 u = ((i64)1 << 40) / r[1], mm = w[2], ll = 0, v = 1, q, g;
    int e;
    for (e = 0; e < 4; e++) {
        m[e] = (i64)16 << (2 * e);
        d[e] = 256 * h[1] + m[e];
        mm += w[3 + e] * m[e] / d[e];
        ll += 256 * w[3 + e] / d[e];
    }
    f[0] = (w[0] << 12) / o[1];
    f[1] = ((w[1] + (mm << 10) / (t[1] + 1024)) * u) >> 28;
    f[2] = (mm << 12) / (t[1] + 1024);
    f[3] = ll << 12;
    while (v < l->w) {
        i64 left = 2 * v, right = left + 1;
        if (o[right] == 0)
            v = left;
        else if (o[left] == 0)
            v = right;
        else {
            i64 fl = tree_value(l, left, f), fr = tree_value(l, right, f);
            v = decode_bit(c, clamp((fr << 16) / (fl + fr), 1, 65535)) ? right : left;
        }
    }
    q = (u * r[v]) >> 10;
    g = ((t[v] << 30) + 1024 * q) / (t[1] + 1024);
    p[0] = ((i64)1 << 30) / o[1];
    p[1] = q;
    p[2] = g;
    for (e = 0; e < 4; e++)
        p[3 + e] = ((h[v] << 38) + m[e] * g) / d[e];
    reweigh(w, p, 7, 1024);
    tree_add(r, v, -1);
    tree_add(h, v, 1);
    if (r[v] == 0) {
        tree_add(o, v, -o[v]);
        tree_add(t, v, -t[v]);
        tree_add(h, v, -h[v]);
    }
    return v - l->w;
}

static void read_blocks(struct bytes body, i64 k, const struct reference *ref, struct content *out)
{
    static const i64 first_weights[7] = {20972, 41943, 41943, 157286, 262144, 314573, 209715};
    struct coder c = coder_of(body);
    struct slot slots[780];
    struct labels l;
    i64 kk = 0, ww = 0, left = k, b, i, faded = 0, *counts = alloc(ref->classes, sizeof *counts), *fading;
    l.w = tree_width(ref->classes);
    l.o = alloc(2 * l.w, sizeof *l.o);
    l.r = alloc(2 * l.w, sizeof *l.r);
    l.t = alloc(2 * l.w, sizeof *l.t);
    l.h = alloc(2 * l.w, sizeof *l.h);
    fading = alloc(ref->classes, sizeof *fading); /* leaves whose T is above 0 */
    memcpy(l.weights, first_weights, sizeof first_weights);
    class_counts(&c, k, ref->classes, counts);
    for (i = 0; i < ref->classes; i++) {
        tree_add(l.r, l.w + i, counts[i]);
        tree_add(l.o, l.w + i, counts[i] > 0);
    }
    numbers_begin(slots);
    for (b = 0; b < ref->blocks && left; b++) {
        i64 first = ref->bounds[b], m = ref->bounds[b + 1] - first, r = ref->images - first;
        i64 n = left < m ? left : m, u, begin = out->n, image, still;
        if (left != r && m != r)
            n = number(&c, slots, n, m * (kk + 1024), ww + 1024 * r / left);
        kk += 256 * n - (kk >> 3);
        ww += 256 * m - (ww >> 3);
        left -= n;
        for (u = n, image = first; u; image++) {
            i64 g = ref->bounds[b + 1] - image;
            if (u == g || decode_bit(&c, clamp(((u << 17) + g) / (2 * g), 1, 65535))) {
                push(out, image, 0);
                u--;
            }
        }
        if (n == 0 || ref->classes == 1)
            continue;
        for (i = begin; i < out->n; i++)
            out->label[i] = (u32)label(&c, &l);
        for (i = still = 0; i < faded; i++) {
            tree_add(l.t, fading[i], -((l.t[fading[i]] + 15) >> 4));
            if (l.t[fading[i]])
                fading[still++] = fading[i];
        }
        faded = still;
        for (i = begin; i < out->n; i++) {
            i64 leaf = l.w + out->label[i];
            if (l.r[leaf] > 0) {
                if (!l.t[leaf])
                    fading[faded++] = leaf;
                tree_add(l.t, leaf, 256);
            }
            tree_add(l.h, leaf, -l.h[leaf]);
        }
    }
    need(left == 0, "images are left after the last block");
    coder_end(&c);
}

/* ---- section 5: coders 4 and 6 ---------------------------------------------------------------------------------------- */

static i64 step(i64 n)
{
    i64 s = (n * 0x9E3779B9) >> 32;
    if (s < 1)
        s = 1;
    for (;; s++) {
        i64 a = s, b = n;
        while (b) {
            i64 rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1)
            return s;
    }
}

static i64 root(i64 v) /* rounded down */
{
    i64 r = 0, bit;
    for (bit = (i64)1 << 30; bit; bit >>= 1)
        if ((r | bit) * (r | bit) <= v)
            r |= bit;
    return r;
}

struct model { const struct reference *ref; i64 *w, *g, *grad, *scores, *e; };

static i64 z_of(const struct reference *ref, i64 image, i64 i)
{
    return i < ref->d ? ref->features[image * ref->d + i] : 32;
}

static void score(const struct model *m, i64 image)
{
    i64 c, i, d = m->ref->d;
    for (c = 0; c < m->ref->classes; c++) {
        i64 sum = 0;
        for (i = 0; i <= d; i++)
            sum += m->w[c * (d + 1) + i] * z_of(m->ref, image, i);
        m->scores[c] = clamp(shr(sum, 13), -2800, 2800);
    }
}

struct example { i64 image, count; int label; };

static void learn_batch(struct model *m, const struct example *batch, i64 n)
{
    i64 b, c, i, d = m->ref->d, classes = m->ref->classes;
    memset(m->grad, 0, (size_t)(classes * (d + 1)) * sizeof *m->grad);
    for (b = 0; b < n; b++) {
        i64 z = 0;
        score(m, batch[b].image);
        for (c = 0; c < classes; c++)
            z += EXP(m->scores[c]);
        for (c = 0; c < classes; c++) {
            i64 err = (c == batch[b].label ? 65536 : 0) - (EXP(m->scores[c]) << 16) / (z + (1 << 24));
            err *= batch[b].count;
            for (i = 0; i <= d; i++)
                m->grad[c * (d + 1) + i] += err * z_of(m->ref, batch[b].image, i);
        }
    }
    for (c = 0; c < classes; c++) {
        i64 rate = 2867200 / (root(m->g[c]) + 16384), square = 0;
        for (i = 0; i <= d; i++) {
            i64 *w = &m->w[c * (d + 1) + i], grad = m->grad[c * (d + 1) + i];
            i64 part = clamp(shr(grad, 10), -(1 << 24), 1 << 24);
            square += part * part;
            *w = clamp(*w + shr(grad * rate, 16), -((i64)1 << 31), (i64)1 << 31);
        }
        m->g[c] += square / (d + 1);
        if (m->g[c] > (i64)1 << 60)
            m->g[c] = (i64)1 << 60;
    }
}

/* marks: -1 or the class of each image; kept: those kept in the order of visits; t: images visited, s: their step. */
static void learn(struct model *m, struct example *list, const int16_t *marks, const struct content *kept, i64 t, i64 s)
{
    i64 j = (kept->n + 16383) / 16384, n = 0, i, at, round, stride;
    struct example batch[128];
    if (j < 1)
        j = 1;
    for (i = 0; i < kept->n; i += j, n++) {
        list[n].image = kept->position[i];
        list[n].label = (int)kept->label[i];
        list[n].count = j;
    }
    j = (t + 16383) / 16384;
    for (i = 0; i < t; i += j) {
        i64 image = i * s % m->ref->images;
        if (marks[image] < 0) {
            list[n].image = image;
            list[n].label = -1;
            list[n++].count = j;
        }
    }
    stride = step(n);
    for (round = 0; round < 4; round++)
        for (i = 0; i < n; i += 128) {
            for (at = i; at < n && at < i + 128; at++)
                batch[at - i] = list[at * stride % n];
            learn_batch(m, batch, at - i);
        }
}

static i64 pack_label(struct coder *c, const struct model *m, const uint16_t *seen, i64 *u, i64 *p, i64 *f, i64 w)
{
    i64 z[4] = {0, 0, 0, 0}, q[4], most = -2800, v, n = m->ref->classes, i;
    int e;
    for (i = 0; i < n; i++)
        if (m->scores[i] > most)
            most = m->scores[i];
    for (i = 0; i < n; i++) {
        i64 s = m->scores[i], count = 2 * (i64)seen[i] + 1, sharp = 2 * (s - most);
        p[4 * i] = EXP(s);
        p[4 * i + 1] = EXP(s) * count;
        p[4 * i + 2] = EXP(shr(s, 1));
        p[4 * i + 3] = EXP(sharp > -2839 ? sharp : -2839) * count;
        for (e = 0; e < 4; e++)
            z[e] += p[4 * i + e];
    }
    memset(f, 0, (size_t)(2 * w) * sizeof *f);
    for (i = 0; i < n; i++) {
        f[w + i] = 1024;
        for (e = 0; e < 4; e++) {
            p[4 * i + e] /= (z[e] >> 20) + 1;
            f[w + i] += u[e] * p[4 * i + e];
        }
    }
    for (v = w - 1; v > 0; v--)
        f[v] = f[2 * v] + f[2 * v + 1];
    v = 1;
    while (v < w) {
        i64 left, right;
        v *= 2;
        left = f[v] >> 10;
        right = f[v + 1] >> 10;
        if (f[v + 1] && decode_bit(c, clamp((right << 16) / (left + right), 1, 65535)))
            v++;
    }
    for (e = 0; e < 4; e++)
        q[e] = p[4 * (v - w) + e];
    reweigh(u, q, 4, 2048);
    return v - w;
}

static void read_with_pack(struct bytes body, i64 k, const struct reference *ref, struct content *out)
{
    struct coder c = coder_of(body);
    struct model m;
    struct slot first[120], second[120];
    struct content kept = {NULL, NULL, 0, 0};
    i64 n = ref->images, classes = ref->classes, d = ref->d, i, t, s, at, weights[3] = {21000, 21000, 21000};
    i64 u[4] = {262144, 262144, 262144, 262144}, w = tree_width(classes), *expected, *kept_of, *p, *f;
    uint16_t *seen;
    int16_t *marks;
    struct example *list;
    int e;
    need(classes <= 1024 && ref->blocks * classes <= 1 << 26, "too many blocks and classes with a pack");
    need(n * classes * (d + 1) <= (i64)1 << 38, "too many images, classes and features with a pack");
    s = step(n);
    m.ref = ref;
    m.w = alloc(classes * (d + 1), sizeof *m.w);
    m.grad = alloc(classes * (d + 1), sizeof *m.grad);
    m.g = alloc(classes, sizeof *m.g);
    m.scores = alloc(classes, sizeof *m.scores);
    expected = alloc(ref->blocks, sizeof *expected);
    kept_of = alloc(ref->blocks, sizeof *kept_of);
    seen = alloc(ref->blocks * classes, sizeof *seen);
    marks = alloc(n, sizeof *marks);
    list = alloc(2 * 16384 + 2, sizeof *list);
    p = alloc(4 * classes, sizeof *p);
    f = alloc(2 * w, sizeof *f);
    for (i = 0; i < n; i++)
        marks[i] = -1;
    for (i = 0; i < classes; i++)
        m.w[i * (d + 1) + d] = (ln(k) - ln(classes) - ln(n - k > 1 ? n - k : 1)) * 256;
    for (i = 0; i < 120; i++)
        first[i] = second[i] = slot_from(SQ(48 * i + 24 - 2880), 8, 1000);
    at = n / 512 > 1 ? n / 512 : 1;
    for (t = 0; kept.n < k; t++) {
        i64 image, lo = 0, hi = ref->blocks, logit, sum = 0, x[3], prob, mix = 32768, error;
        struct slot *slots[2];
        int bit;
        need(t < n, "fewer images than there should be");
        if (t == at) {
            learn(&m, list, marks, &kept, t, s);
            at = 5 * at / 4 > at + 1 ? 5 * at / 4 : at + 1;
        }
        image = t * s % n;
        while (hi - lo > 1) { /* the block of the image */
            i64 middle = (lo + hi) / 2;
            if (ref->bounds[middle] <= image)
                lo = middle;
            else
                hi = middle;
        }
        score(&m, image);
        for (i = 0; i < classes; i++)
            sum += EXP(m.scores[i]);
        logit = ln(sum) - 4258;
        x[0] = logit + ln((kept_of[lo] + 4) << 16) - ln(expected[lo] + 262144);
        slots[0] = &first[clamp(x[0] + 2880, 0, 5759) / 48];
        slots[1] = &second[clamp(logit + 2880, 0, 5759) / 48];
        x[1] = ST_[slot_p(slots[0])];
        x[2] = ST_[slot_p(slots[1])];
        for (e = 0; e < 3; e++)
            mix += weights[e] * x[e];
        prob = SQ(shr(mix, 16));
        bit = decode_bit(&c, prob);
        error = 65536 * bit - prob;
        if (error > 300 || error < -300)
            for (e = 0; e < 3; e++)
                weights[e] += shr(x[e] * error * 2 + (1 << 17), 18);
        slot_learn(slots[0], bit);
        slot_learn(slots[1], bit);
        expected[lo] += SQ(logit);
        if (bit) {
            i64 class_ = pack_label(&c, &m, seen + lo * classes, u, p, f, w);
            kept_of[lo]++;
            seen[lo * classes + class_]++;
            marks[image] = (int16_t)class_;
            push(&kept, image, class_);
        }
    }
    coder_end(&c);
    for (i = 0; i < n; i++)
        if (marks[i] >= 0)
            push(out, i, marks[i]);
}

/* ---- payload-format.md section 5: a content --------------------------------------------------------------------------- */

static void even_blocks(struct reference *ref)
{
    i64 b, *bounds;
    ref->blocks = (ref->images + 255) / 256;
    bounds = alloc(ref->blocks + 1, sizeof *bounds);
    for (b = 0; b <= ref->blocks; b++)
        bounds[b] = 256 * b < ref->images ? 256 * b : ref->images;
    ref->bounds = bounds;
}

static struct content read_content(struct bytes body, struct reference ref)
{
    struct content out = {NULL, NULL, 0, 0};
    i64 most = 65536 + 256 * (i64)(body.end - body.at), k, i;
    int coder = *take(&body, 1);
    u32 check = 0, found = 0;
    if (coder == 1 || coder == 2)
        refuse("unsupported", "coders 1 and 2 need a Zstandard decoder");
    if (coder < 3 || coder > 6)
        refuse("unsupported", "an unknown coder");
    most = most < 1 << 24 ? most : 1 << 24;
    k = varint(&body, 0, most < ref.images ? most : ref.images, "the number of images named");
    if (coder % 2 == 0) {
        need(ref.pack_named, "a pack is needed and none is named");
        if (!ref.d)
            refuse("missing", "the pack (--pack)");
        need(body.end - body.at >= 4, "no checksum of the content");
        body.end -= 4;
        check = get32(body.end);
    }
    if (coder > 4)
        even_blocks(&ref);
    if (!ref.bounds)
        refuse("missing", "the blocks of the reference (--blocks)");
    if (k == 0)
        need(body.at == body.end, "bytes behind an empty content");
    else if (coder % 2)
        read_blocks(body, k, &ref, &out);
    else
        read_with_pack(body, k, &ref, &out);
    if (coder % 2 == 0) {
        for (i = 0; i < 2 * out.n; i++) {
            u32 v = i < out.n ? out.position[i] : out.label[i - out.n];
            u8 bytes[4];
            bytes[0] = (u8)v;
            bytes[1] = (u8)(v >> 8);
            bytes[2] = (u8)(v >> 16);
            bytes[3] = (u8)(v >> 24);
            found = crc32(found, bytes, i < out.n ? 4 : 2);
        }
        need(found == check, "not the labels that were sent: the pack is damaged");
    }
    return out;
}

/* ---- section 6: segments ----------------------------------------------------------------------------------------------- */

struct segments { int kind; i64 n; struct bytes *bodies; }; /* at = NULL: not whole */
struct dealt { u32 key; i64 block; };

static int by_key(const void *a, const void *b)
{
    u32 x = ((const struct dealt *)a)->key, y = ((const struct dealt *)b)->key;
    return x < y ? -1 : x > y;
}

static int by_number(const void *a, const void *b)
{
    i64 x = *(const i64 *)a, y = *(const i64 *)b;
    return x < y ? -1 : x > y;
}

/* label by position; a position in two segments is refused */
static void place(i64 *pairs, i64 *n, i64 position, i64 label_) { pairs[(*n)++] = position << 16 | label_; }

static i64 *read_segments(const struct segments *segments, struct reference ref, i64 *count)
{
    i64 s, i, b, total = 0, *pairs;
    struct content *parts = alloc(segments->n, sizeof *parts);
    i64 **outside = alloc(segments->n, sizeof *outside), **inside = alloc(segments->n, sizeof *inside);
    struct dealt *dealt = NULL;
    if (segments->kind == 0)
        even_blocks(&ref);
    if (segments->kind != 2) {
        if (!ref.bounds)
            refuse("missing", "the blocks of the reference (--blocks)");
        need(segments->n <= ref.blocks, "more segments than blocks");
        dealt = alloc(ref.blocks, sizeof *dealt);
        for (b = 0; b < ref.blocks; b++) {
            dealt[b].block = b;
            dealt[b].key = (u32)((uint64_t)b * 2654435769u);
        }
        qsort(dealt, (size_t)ref.blocks, sizeof *dealt, by_key); /* keys are all different: the factor is odd */
    }
    for (s = 0, i = 0; s < segments->n; s++) {
        struct reference part = ref;
        i64 *bounds, *mine, n = 0;
        if (segments->kind != 2) {
            i64 begin = i;
            while (i < ref.blocks && i * segments->n / ref.blocks == s)
                i++;
            part.blocks = i - begin;
            mine = alloc(part.blocks, sizeof *mine);
            bounds = alloc(part.blocks + 1, sizeof *bounds);
            for (b = 0; b < part.blocks; b++)
                mine[b] = dealt[begin + b].block;
            qsort(mine, (size_t)part.blocks, sizeof *mine, by_number);
            for (b = 0; b < part.blocks; b++) {
                n += ref.bounds[mine[b] + 1] - ref.bounds[mine[b]];
                bounds[b + 1] = n;
                mine[b] = ref.bounds[mine[b]];
            }
            part.images = n;
            part.bounds = bounds;
            outside[s] = mine;
            inside[s] = bounds;
            if (ref.d && segments->bodies[s].at) {
                signed char *rows = alloc(n * ref.d, 1);
                for (b = 0; b < part.blocks; b++)
                    memcpy(rows + bounds[b] * ref.d, ref.features + mine[b] * ref.d,
                           (size_t)((bounds[b + 1] - bounds[b]) * ref.d));
                part.features = rows;
            }
        }
        if (segments->bodies[s].at)
            parts[s] = read_content(segments->bodies[s], part);
        total += parts[s].n;
    }
    need(total <= 1 << 24, "more than 2^24 images");
    pairs = alloc(total, sizeof *pairs);
    *count = 0;
    for (s = 0; s < segments->n; s++)
        for (i = 0, b = 0; i < parts[s].n; i++) {
            i64 position = parts[s].position[i];
            if (segments->kind != 2) {
                while (inside[s][b + 1] <= position)
                    b++;
                position = outside[s][b] + position - inside[s][b];
            }
            place(pairs, count, position, parts[s].label[i]);
        }
    qsort(pairs, (size_t)total, sizeof *pairs, by_number);
    for (i = 1; i < total; i++)
        need(pairs[i - 1] >> 16 != pairs[i] >> 16, "a position in two segments");
    return pairs;
}

/* ---- section 3: the container ------------------------------------------------------------------------------------------- */

static struct bytes read_file(const char *path)
{
    struct bytes b = {NULL, NULL};
    size_t n = 0, room = 1 << 16;
    u8 *data = alloc((i64)room, 1);
    FILE *f = fopen(path, "rb");
    if (!f)
        refuse("file", path);
    for (;;) {
        n += fread(data + n, 1, room - n, f);
        if (n < room)
            break;
        {
            u8 *more = alloc((i64)room * 2, 1);
            memcpy(more, data, n);
            data = more;
            room *= 2;
        }
    }
    fclose(f);
    b.at = data;
    b.end = data + n;
    return b;
}

static void read_pack(const char *path, struct reference *ref, const u8 *key_id, const u8 *pack_id)
{
    struct bytes b = read_file(path);
    const u8 *p = b.at;
    i64 size = b.end - b.at, d;
    if (size < 64)
        refuse("truncated", "the pack");
    need(!memcmp(p, "\x89PLP", 4), "not a pack");
    if (p[4] > 1)
        refuse("unsupported", "a newer pack");
    need(crc32(0, p, 60) == get32(p + 60), "the checksum of the pack's header");
    d = p[12] | p[13] << 8;
    need(p[4] == 1 && p[5] == 1 && (p[6] | p[7] << 8) == 64 && (p[14] | p[15] << 8) == 32, "fields of the pack's header");
    need(d >= 1 && d <= 4096 && get32(p + 8) > 0, "fields of the pack's header");
    if (size < 64 + (i64)get32(p + 8) * d)
        refuse("truncated", "the pack");
    need(size == 64 + (i64)get32(p + 8) * d, "bytes behind the pack");
    if (get32(p + 8) != ref->images || memcmp(p + 16, key_id, 8) || (pack_id && memcmp(p + 32, pack_id, 8)))
        refuse("reference", "another pack than the header names");
    if (pack_id) {
        ref->d = d;
        ref->features = (const signed char *)p + 64;
    }
}

static void read_bounds(const char *path, struct reference *ref)
{
    struct bytes b = read_file(path);
    const u8 *p;
    i64 n = 0, last = -1, v = -1, *bounds = alloc((b.end - b.at) / 2 + 2 + ref->images / 2048 + 1, sizeof *bounds);
    for (p = b.at; p <= b.end; p++) {
        if (p < b.end && *p >= '0' && *p <= '9') {
            v = (v < 0 ? 0 : v) * 10 + (*p - '0');
            if (v > ref->images)
                break;
        } else if (v >= 0) {
            if (v <= last || (last < 0 && v))
                refuse("reference", "bounds that do not rise from 0");
            while (last >= 0 && v - last > 2048) /* longer blocks are cut */
                bounds[n++] = last += 2048;
            bounds[n++] = last = v;
            v = -1;
        }
    }
    if (last != ref->images || v > ref->images || n < 2)
        refuse("reference", "blocks of another number of images");
    ref->bounds = bounds;
    ref->blocks = n - 1;
}

int main(int argc, char **argv)
{
    const char *path = NULL, *pack = NULL, *blocks = NULL;
    struct bytes b, header, labels_ = {NULL, NULL};
    struct segments segments = {0, 0, NULL};
    struct reference ref = {0, 0, NULL, 0, 0, 0, NULL};
    const u8 *key_id, *pack_id = NULL, *start;
    int partial = 0, flags, i, sections = 0, changes = 0, last = -1, signed_ = 0;
    u8 seen[256] = {0};
    i64 length, n, *pairs, count = 0, j;
    u32 crc_header;
    for (i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--partial"))
            partial = 1;
        else if (!strcmp(argv[i], "--pack") && i + 1 < argc)
            pack = argv[++i];
        else if (!strcmp(argv[i], "--blocks") && i + 1 < argc)
            blocks = argv[++i];
        else if (!path && argv[i][0] != '-')
            path = argv[i];
        else
            path = "", i = argc;
    }
    if (!path || !*path) {
        fprintf(stderr, "usage: plada_decode FILE [--blocks BOUNDS] [--pack PACK] [--partial]\n");
        return 2;
    }
    make_tables();
    b = header = read_file(path);
    n = b.end - b.at;
    need(!memcmp(b.at, "\x89PLD", (size_t)(n < 4 ? n : 4)), "not a payload file");
    short_kind = "truncated";
    take(&b, 4);
    i = *take(&b, 1);
    if (i != 2)
        refuse("unsupported", "another version than 2");
    flags = *take(&b, 1);
    if (flags > 3)
        refuse("unsupported", "unknown flags");
    length = varint(&b, 1, 1 << 30, "the length of the file");
    ref.images = varint(&b, 1, 1 << 28, "the number of images");
    ref.classes = varint(&b, 1, 65535, "the number of classes");
    key_id = take(&b, 8);
    take(&b, 8);
    if (flags & 1)
        pack_id = take(&b, 8);
    if (flags & 2)
        varint(&b, 1, 0xFFFFFFFFll, "the serial number");
    need(b.at - header.at < length, "the length of the file");
    header.end = b.at;
    need(n <= length, "bytes behind the end");
    if (n < length && !partial)
        refuse("truncated", "the file");
    if (n == length)
        short_kind = "corrupt";
    crc_header = crc32(0, header.at, header.end - header.at);
    ref.pack_named = flags & 1;
    while (b.at - header.at < length && !(partial && segments.bodies)) {
        struct bytes body;
        int type;
        i64 size;
        start = b.at;
        type = *take(&b, 1);
        size = varint(&b, 0, ((i64)1 << 35) - 1, "the length of a section");
        need(b.at - header.at + size + 4 <= length, "a section that passes the end");
        body.at = take(&b, size);
        body.end = b.at;
        need(crc32(crc_header, start, b.at - start) == get32(take(&b, 4)), "the checksum of a section");
        need(!seen[type] && last != 0xFF, "a section out of place");
        if (type < 0x80 && (type < 1 || type > 3))
            refuse("unsupported", "an unknown section");
        need(type != 0x81 || !sections, "names and notes that are not the first section");
        need(type >= 0x80 || !(seen[1] || seen[2] || seen[3]), "a second content");
        seen[type] = 1;
        last = type;
        sections++;
        if (type == 1)
            labels_ = body;
        changes |= type == 3;
        if (type == 0x81)
            need(size > 0 && (*body.at & 6) && *body.at < 8, "flags of names and notes");
        if (type == 0xFF) {
            if (size != 69 || *body.at != 1)
                refuse("unsupported", "an unknown signature");
            signed_ = 1;
        }
        if (type == 2) {
            i64 total = 0, *sizes;
            short_kind = "corrupt";
            segments.kind = *take(&body, 1);
            if (segments.kind > 2)
                refuse("unsupported", "an unknown kind of segments");
            segments.n = varint(&body, 1, segments.kind == 2 ? 16 : 4096, "the number of segments");
            sizes = alloc(segments.n, sizeof *sizes);
            segments.bodies = alloc(segments.n, sizeof *segments.bodies);
            for (j = 0; j < segments.n; j++)
                total += 4 + (sizes[j] = varint(&body, 0, ((i64)1 << 35) - 1, "the length of a segment"));
            need(body.at == body.end, "bytes behind the plan");
            need(b.at - header.at + total <= length, "segments that pass the end");
            for (j = 0; j < segments.n; j++) {
                u8 number_[2];
                int whole;
                i64 here = b.end - b.at < sizes[j] + 4 ? b.end - b.at : sizes[j] + 4;
                number_[0] = (u8)(j < 128 ? j : (j & 127) | 128);
                number_[1] = (u8)(j >> 7);
                whole = here == sizes[j] + 4 && crc32(crc32(crc_header, number_, j < 128 ? 1 : 2), b.at, sizes[j]) ==
                                                    get32(b.at + sizes[j]);
                need(whole || partial, "the checksum of a segment");
                if (whole) {
                    segments.bodies[j].at = b.at;
                    segments.bodies[j].end = b.at + sizes[j];
                }
                b.at += here;
            }
        }
    }
    need(labels_.at || segments.bodies || changes, "no section of labels");
    short_kind = "corrupt";
    if (changes)
        refuse("unsupported", "a file of changes");
    if (blocks)
        read_bounds(blocks, &ref);
    if (pack)
        read_pack(pack, &ref, key_id, pack_id);
    if (segments.bodies)
        pairs = read_segments(&segments, ref, &count);
    else {
        struct content content = read_content(labels_, ref);
        pairs = alloc(content.n, sizeof *pairs);
        for (j = 0; j < content.n; j++)
            place(pairs, &count, content.position[j], content.label[j]);
    }
    if (signed_)
        fprintf(stderr, "signed, not verified\n");
    printf("position,label\n");
    for (j = 0; j < count; j++)
        printf("%ld,%ld\n", (long)(pairs[j] >> 16), (long)(pairs[j] & 65535));
    return fflush(stdout) || ferror(stdout);
}
