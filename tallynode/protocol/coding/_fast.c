/* The model of a ballot and its range coder, compiled: model.py and rangecoder.py once more,
 * statement by statement, making the same bytes. No allocation here: every array comes from
 * compiled.py, which knows the sizes. Right shifts of negative numbers round down, as in Python. */

#include <stddef.h>
#include <stdint.h>

enum { ODDS_MAX = 2047, SHARES = 8, LABEL_GUESS = 4, MOVE_WEIGHT = 6 };
enum { RUN_RATE = 51, SUPPORT_RATE = 20, CLASS_RATE = 307, GUESS_RATE = 205, BIAS_RATE = 102 };
enum { ONE = 1 << 16, TOP = 1 << 24 };
enum { FAILED = -1 }; /* decoding: not what an encoder makes; encoding: no room left */

typedef struct {
    uint8_t *bytes;
    int64_t size; /* encoding: room; decoding: bytes there are */
    int64_t at;   /* bytes put out, or that the encoder had put out */
    uint64_t low; /* decoding: the value, minus the encoder's low */
    uint32_t range;
    int decodes, failed;
} coder;

typedef struct {
    int64_t *count; /* (2 * leaves) */
    int64_t *moves; /* (classes, 2 * leaves), or NULL */
    int64_t step;
    int32_t leaves;
} tree;

typedef struct {
    const int32_t *previous, *run, *support, *before, *label, *kind; /* (n) each */
} contexts;

typedef struct {
    int64_t *stay, *of_class, *guess, bias[2];
    const int32_t *one_of_odds, *shares; /* (4096), (classes) */
} weights;

static void carry(coder *c) {
    int64_t at = c->at - 1;
    while (at >= 0 && c->bytes[at] == 0xFF) c->bytes[at--] = 0;
    if (at >= 0) c->bytes[at]++;
}

static uint64_t byte_at(const coder *c, int64_t at) {
    return at < c->size ? c->bytes[at] : 0;
}

static int code(coder *c, int bit, int64_t one) {
    uint32_t bound = (c->range >> 16) * (uint32_t)one;
    if (c->decodes) bit = c->low < bound;
    if (bit) {
        c->range = bound;
    } else {
        c->range -= bound;
        if (c->decodes) {
            c->low -= bound;
        } else {
            c->low += bound;
            if (c->low > UINT32_MAX) {
                c->low &= UINT32_MAX;
                carry(c);
            }
        }
    }
    while (c->range < TOP) {
        if (c->at >= c->size) {
            c->failed = 1;
            c->range = UINT32_MAX;
            return 0;
        }
        if (c->decodes) {
            c->low = c->low << 8 | byte_at(c, c->at + 4);
        } else {
            c->bytes[c->at] = (uint8_t)(c->low >> 24);
            c->low = c->low << 8 & UINT32_MAX;
        }
        c->at++;
        c->range <<= 8;
    }
    return bit;
}

static uint64_t last(uint64_t low, uint64_t width, int *tail) {
    for (*tail = 0; *tail < 4; ++*tail) {
        uint64_t mask = (uint64_t)UINT32_MAX >> 8 * *tail, value = (low + mask) & ~mask;
        if (value < low + width) return value;
    }
    return low;
}

static int64_t finish(coder *c) {
    int tail;
    if (c->failed) return FAILED;
    if (c->decodes) {
        uint64_t window = 0;
        for (int i = 0; i < 4; i++) window = window << 8 | byte_at(c, c->at + i);
        uint64_t value = last((window - c->low) & UINT32_MAX, c->range, &tail);
        return (value & UINT32_MAX) == window && c->size == c->at + tail ? c->size : FAILED;
    }
    uint64_t value = last(c->low, c->range, &tail);
    if (c->at + tail > c->size) return FAILED;
    if (value > UINT32_MAX) carry(c);
    for (int i = 0; i < tail; i++) c->bytes[c->at++] = (uint8_t)(value >> (24 - 8 * i));
    return c->at;
}

static int64_t share(int64_t part, int64_t total) { /* 0 < part < total */
    int64_t one = (part << 16) / total;
    return one ? one : 1;
}

static int32_t code_class(coder *c, tree *t, int32_t vote) {
    int64_t *count = t->count;
    int32_t mask = t->leaves >> 1, node = 1;
    while (node < t->leaves) {
        count[node] += t->step;
        node *= 2;
        int64_t left = count[node], right = count[node + 1];
        if (!left)
            node++;
        else if (right)
            node += code(c, (vote & mask) != 0, share(right, left + right));
        mask >>= 1;
    }
    count[node] += t->step;
    return node - t->leaves;
}

static int32_t code_move(coder *c, tree *t, int32_t vote, int32_t source, const int32_t *excluded,
                         int excludes) {
    int64_t *count = t->count, *moves = t->moves ? t->moves + (int64_t)source * 2 * t->leaves : NULL;
    int64_t out[3], total = count[1] + (moves ? moves[1] : 0);
    for (int k = 0; k < excludes; k++) {
        int32_t leaf = excluded[k] + t->leaves;
        out[k] = count[leaf] + (moves ? moves[leaf] : 0);
        total -= out[k];
    }
    int shift = 0;
    while (t->leaves >> (shift + 1)) shift++;
    for (int32_t node = 1;;) {
        count[node] += t->step;
        if (moves) moves[node] += t->step * MOVE_WEIGHT;
        if (node >= t->leaves) return node - t->leaves;
        shift--;
        node = 2 * node + 1;
        int64_t right = count[node] + (moves ? moves[node] : 0);
        for (int k = 0; k < excludes; k++)
            if ((excluded[k] + t->leaves) >> shift == node) right -= out[k];
        if (right == total) continue;
        if (right && code(c, vote >> shift & 1, share(right, total))) {
            total = right;
        } else {
            total -= right;
            node--;
        }
    }
}

static int64_t one_of(const weights *w, int64_t odds) {
    odds >>= 8;
    return w->one_of_odds[(odds > ODDS_MAX ? ODDS_MAX : odds < -ODDS_MAX ? -ODDS_MAX : odds) & 4095];
}

static int code_guess(coder *c, weights *w, int place, int kind, int32_t guess, int32_t vote) {
    int64_t *weight = w->guess + kind * SHARES + w->shares[guess];
    int64_t one = one_of(w, *weight + w->bias[place]);
    int bit = code(c, vote == guess, one);
    int64_t error = (bit ? ONE : 0) - one;
    *weight += error * GUESS_RATE >> 10;
    w->bias[place] += error * BIAS_RATE >> 10;
    return bit;
}

static int32_t code_changed(coder *c, tree *t, weights *w, const contexts *given, int32_t classes,
                            int32_t i, int32_t vote) {
    int32_t previous = given->previous[i], excluded[3] = {previous, 0, 0};
    int excludes = 1;
    for (int place = 0; place < 2; place++) {
        int32_t guess = place ? given->label[i] : given->before[i];
        int kind = place ? LABEL_GUESS : given->kind[i], ruled_out = guess < 0;
        for (int k = 0; k < excludes; k++) ruled_out |= guess == excluded[k];
        if (ruled_out) continue;
        if (excludes + 1 == classes || code_guess(c, w, place, kind, guess, vote)) return guess;
        excluded[excludes++] = guess;
    }
    return code_move(c, t, vote, previous, excluded, excludes);
}

/* Code n votes in either direction; `previous` NULL: without a reference. Returns the number of
 * bytes, or FAILED. */
int64_t tallynode_code(int decodes, uint8_t *bytes, int64_t size, int32_t *votes, int32_t n,
                       int32_t classes, int64_t *count, int64_t *moves, int64_t step,
                       int32_t leaves, const int32_t *previous, const int32_t *run,
                       const int32_t *support, const int32_t *before, const int32_t *label,
                       const int32_t *kind, int64_t *stay, int64_t *of_class, int64_t *guess,
                       const int32_t *one_of_odds, const int32_t *shares) {
    coder c = {bytes, size, 0, 0, UINT32_MAX, decodes, 0};
    tree t = {count, moves, step, leaves};
    contexts given = {previous, run, support, before, label, kind};
    weights w = {stay, of_class, guess, {0, 0}, one_of_odds, shares};
    if (decodes) {
        for (int i = 0; i < 4; i++) c.low = c.low << 8 | byte_at(&c, i);
        if (c.low >= c.range) return FAILED;
    }
    for (int32_t i = 0; i < n && !c.failed; i++) {
        if (!previous) {
            votes[i] = code_class(&c, &t, votes[i]);
            continue;
        }
        int32_t from = previous[i];
        int64_t one = one_of(&w, stay[run[i]] + stay[support[i]] + of_class[from]);
        int bit = code(&c, votes[i] != from, one);
        int64_t error = (bit ? ONE : 0) - one;
        stay[run[i]] += error * RUN_RATE >> 10;
        stay[support[i]] += error * SUPPORT_RATE >> 10;
        of_class[from] += error * CLASS_RATE >> 10;
        votes[i] = bit ? code_changed(&c, &t, &w, &given, classes, i, votes[i]) : from;
    }
    return finish(&c);
}
