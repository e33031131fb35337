/* Viewers that cost nearly nothing: opens many SSE responses, and checks and times every token in them.
 *
 * One thread and epoll. Each viewer sends the bytes of --request, in which "{viewer}" is replaced by its number (only
 * in a header: the length of the body is written in the request). With --follow the response is JSON, and its
 * "events_url" replaces {} in a second request, whose response is the stream. The viewer then searches every "data:"
 * line for "<number>@<CLOCK_MONOTONIC, ns> ", the provider's stamps (see provider.c). Numbers must rise by one from 0
 * (with --resumed: from the first one that comes), or they are counted as wrong. A token's latency is the time of the
 * read that brought it minus its stamp. Tokens stamped between --from-ms and --to-ms of this run are counted.
 *
 * Prints JSON lines: {"kind":"open"} when all responses have begun, {"kind":"told"} when all viewers have their
 * --tokens, one {"kind":"stream"} for each viewer, and a {"kind":"total"} with the latencies as pairs of
 * [bucket in µs, count], buckets within 1.6 % of each other. A viewer leaves after its last token; with --idle or
 * --stay it leaves when standard input ends.
 *
 * It runs under the batch scheduling policy, so that its wake-up does not take the core from the process that writes
 * to it. Real viewers are on other machines. Here each write of a server that writes to many viewers in a row would
 * otherwise cause a switch of processes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 256 * 1024, HEAD_BYTES = 16 * 1024, FINE = 64, BUCKETS = 40 * FINE };

enum Stage { WAITING, CONNECTING, READY, ASKED, STREAMING, ENDED };
enum Framing { UNTIL_CLOSE, BY_LENGTH, CHUNKED };
enum Line { AT_START, IN_DATA, IN_EVENT, IN_OTHER };

typedef struct {
  int fd, status, following, restarts, wrong, done, told;
  enum Stage stage;
  int64_t start_ns, asked_ns, first_ns, first_stamp_ns, last_ns;
  /* HTTP */
  char head[HEAD_BYTES];
  size_t head_len;
  int in_body, body_over;
  enum Framing framing;
  long left;      /* bytes of the body, or of this chunk */
  int chunk_part; /* 0 size, 1 data, 2 line end after data, 3 trailer */
  /* SSE and tokens */
  enum Line line;
  char name[8];
  int name_len, in_snapshot, data_has_token, part; /* part: 0 outside, 1 number, 2 stamp */
  char event[16];
  int event_len;
  int64_t number_read, stamp_read;
  long expected, tokens, events, chunks, reads, bytes;
} Viewer;

static struct {
  int port, follow_port, count, ramp_ms, from_ms, to_ms, timeout_ms, preconnect, idle, stay, resumed;
  long tokens;
  char *request, *follow;
} opt = {.count = 1, .timeout_ms = 30000, .to_ms = 1 << 30};

static Viewer *viewers;
static int epoll_fd, opened, told, ended;
static int64_t began_ns, latency[BUCKETS], read_ns;
static long counted;

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Print a line for the program that waits for this moment. */
static void say(const char *kind) {
  printf("{\"kind\":\"%s\",\"ms\":%.1f}\n", kind, (now_ns() - began_ns) / 1e6);
  fflush(stdout);
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

/* -- latencies ----------------------------------------------------------------------------------------- */

/* 64 buckets for each doubling: below 64 µs one bucket is one µs. */
static int bucket_of(int64_t us) {
  if (us < 0) us = 0;
  if (us < FINE) return (int)us;
  int doubling = 63 - __builtin_clzll((uint64_t)us) - 6;
  int at = (doubling + 1) * FINE + (int)((us >> doubling) - FINE);
  return at < BUCKETS ? at : BUCKETS - 1;
}

static int64_t floor_of(int bucket) {
  if (bucket < FINE) return bucket;
  return (int64_t)(bucket % FINE + FINE) << (bucket / FINE - 1);
}

/* -- tokens -------------------------------------------------------------------------------------------- */

static void take_token(Viewer *v) {
  v->data_has_token = 1;
  if (opt.resumed && !v->tokens && !v->expected) v->expected = v->number_read;
  if (v->in_snapshot && v->number_read < v->expected) return; /* a snapshot repeats tokens */
  if (v->number_read != v->expected) v->wrong++;
  v->expected = v->number_read + 1;
  v->tokens++;
  v->last_ns = read_ns;
  if (!v->first_ns) v->first_ns = read_ns, v->first_stamp_ns = v->stamp_read;
  int64_t since = v->stamp_read - began_ns;
  if (since >= opt.from_ms * 1000000LL && since < opt.to_ms * 1000000LL) {
    latency[bucket_of((read_ns - v->stamp_read) / 1000)]++;
    counted++;
  }
  if (opt.tokens && v->expected == opt.tokens) v->done = 1;
}

static void take_data_byte(Viewer *v, char byte) {
  if (byte >= '0' && byte <= '9') {
    if (!v->part) v->part = 1, v->number_read = 0;
    if (v->part == 1) v->number_read = v->number_read * 10 + (byte - '0');
    else v->stamp_read = v->stamp_read * 10 + (byte - '0');
  } else if (byte == '@' && v->part == 1) {
    v->part = 2;
    v->stamp_read = 0;
  } else {
    if (byte == ' ' && v->part == 2) take_token(v);
    v->part = 0;
  }
}

static void end_line(Viewer *v) {
  if (v->line == IN_EVENT) {
    v->event[v->event_len] = 0;
    v->in_snapshot = !strcmp(v->event, "snapshot");
    if (!strcmp(v->event, "restart")) v->restarts++, v->expected = 0;
  } else if (v->line == IN_DATA) {
    v->events += v->data_has_token;
    v->data_has_token = 0;
  } else if (v->line == AT_START && !v->name_len) {
    v->in_snapshot = 0;
  }
  v->line = AT_START;
  v->name_len = v->event_len = v->part = 0;
}

static void take_sse(Viewer *v, const char *bytes, size_t len) {
  for (size_t i = 0; i < len; i++) {
    char byte = bytes[i];
    if (byte == '\n') {
      end_line(v);
    } else if (byte == '\r') {
      continue;
    } else if (v->line == IN_DATA) {
      take_data_byte(v, byte);
    } else if (v->line == IN_EVENT) {
      if (byte != ' ' && v->event_len < 15) v->event[v->event_len++] = byte;
    } else if (v->line == AT_START) {
      if (byte != ':' && v->name_len < 7) {
        v->name[v->name_len++] = byte;
        continue;
      }
      v->name[v->name_len] = 0;
      v->line = !strcmp(v->name, "data") ? IN_DATA : !strcmp(v->name, "event") ? IN_EVENT : IN_OTHER;
    }
  }
}

/* -- connections --------------------------------------------------------------------------------------- */

static void end(Viewer *v) {
  if (v->stage == ENDED) return;
  if (v->fd >= 0) {
    struct linger at_once = {1, 0}; /* no TIME_WAIT, because thousands of ports are used again within seconds */
    setsockopt(v->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(v->fd);
  }
  v->fd = -1;
  v->stage = ENDED;
  ended++;
}

static void connect_to(Viewer *v, int port) {
  v->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (v->fd < 0) die("socket");
  int on = 1;
  setsockopt(v->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  struct sockaddr_in at = {
      .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (connect(v->fd, (struct sockaddr *)&at, sizeof at) < 0 && errno != EINPROGRESS) die("connect");
  struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = v};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, v->fd, &e) < 0) die("epoll_ctl");
  v->stage = CONNECTING;
}

/* A request fits a fresh socket's buffer. */
static void ask(Viewer *v, const char *request) {
  static char own[HEAD_BYTES + 16];
  char *gap = strstr(request, "{viewer}");
  if (gap) {
    snprintf(own, sizeof own, "%.*s%d%s", (int)(gap - request), request, (int)(v - viewers), gap + 8);
    request = own;
  }
  size_t len = strlen(request);
  v->head_len = 0;
  v->in_body = v->body_over = 0;
  if (send(v->fd, request, len, MSG_NOSIGNAL) != (ssize_t)len) {
    end(v);
    return;
  }
  if (!v->following) v->asked_ns = now_ns();
  v->stage = ASKED;
}

static char *followed_url(Viewer *v) {
  static char request[HEAD_BYTES];
  char *url = strstr(v->head, "\"events_url\":\"");
  if (!url) return NULL;
  url += 14;
  char *close_quote = strchr(url, '"');
  char *gap = strstr(opt.follow, "{}");
  if (!close_quote || !gap) return NULL;
  snprintf(request, sizeof request, "%.*s%.*s%s", (int)(gap - opt.follow), opt.follow, (int)(close_quote - url), url,
           gap + 2);
  return request;
}

/* The first of two responses is complete: go on to the stream. */
static void follow(Viewer *v) {
  char *request = followed_url(v);
  if (!request) {
    end(v);
    return;
  }
  v->following = 1;
  if (opt.follow_port == opt.port) {
    ask(v, request);
    return;
  }
  close(v->fd);
  connect_to(v, opt.follow_port);
}

static void take_body(Viewer *v, const char *bytes, size_t len) {
  if (opt.follow && !v->following) { /* a small JSON document, kept after the head */
    if (v->head_len + len < HEAD_BYTES) {
      memcpy(v->head + v->head_len, bytes, len);
      v->head_len += len;
      v->head[v->head_len] = 0;
    }
  } else {
    take_sse(v, bytes, len);
  }
}

static void unchunk(Viewer *v, const char *bytes, size_t len) {
  for (size_t i = 0; i < len && !v->body_over;) {
    if (v->chunk_part == 1) {
      size_t part = len - i < (size_t)v->left ? len - i : (size_t)v->left;
      take_body(v, bytes + i, part);
      i += part;
      v->left -= (long)part;
      if (!v->left) v->chunk_part = 2;
      continue;
    }
    char byte = bytes[i++];
    if (v->chunk_part == 2) {
      if (byte == '\n') v->chunk_part = 0, v->left = 0;
    } else if (v->chunk_part == 3) {
      if (byte == '\n') v->body_over = 1;
    } else if (byte == '\n') {
      v->chunk_part = v->left ? 1 : 3;
      v->chunks += v->left > 0;
    } else if (byte != '\r') {
      v->left = v->left * 16 + (byte <= '9' ? byte - '0' : (byte | 32) - 'a' + 10);
    }
  }
}

static void take_head(Viewer *v) {
  v->status = atoi(v->head + 9);
  v->in_body = 1;
  char *length = strcasestr(v->head, "\ncontent-length:");
  v->framing = strcasestr(v->head, "\ntransfer-encoding: chunked") ? CHUNKED : length ? BY_LENGTH : UNTIL_CLOSE;
  v->left = v->framing == BY_LENGTH ? atol(length + 16) : 0;
  v->chunk_part = 0;
  if (v->status >= 300 || v->status == 204) {
    end(v);
    return;
  }
  if (!opt.follow || v->following) {
    v->stage = STREAMING;
    v->chunks = 0;
    if (++opened == opt.count) {
      say("open");
    }
  }
}

static void take(Viewer *v, const char *bytes, size_t len) {
  v->reads++;
  v->bytes += (long)len;
  if (!v->in_body) {
    size_t part = len < HEAD_BYTES - 1 - v->head_len ? len : HEAD_BYTES - 1 - v->head_len;
    size_t before = v->head_len;
    memcpy(v->head + before, bytes, part);
    v->head_len += part;
    v->head[v->head_len] = 0;
    char *blank = strstr(v->head, "\r\n\r\n");
    if (!blank) return;
    size_t head_bytes = (size_t)(blank + 4 - v->head) - before; /* of this read */
    v->head_len = (size_t)(blank + 4 - v->head);
    *blank = 0;
    take_head(v);
    v->head_len = 0;
    if (v->stage == ENDED) return;
    bytes += head_bytes;
    len -= head_bytes;
  }
  if (v->framing == CHUNKED) {
    unchunk(v, bytes, len);
  } else if (len) {
    take_body(v, bytes, len);
    if (v->framing == BY_LENGTH && (v->left -= (long)len) <= 0) v->body_over = 1;
  }
  if (v->body_over && opt.follow && !v->following) follow(v);
  else if (v->body_over || (v->done && !opt.stay)) end(v);
  else if (v->done && !v->told++ && ++told == opt.count) say("told");
}

static void start(Viewer *v, int64_t now) {
  if (v->stage == WAITING) {
    v->start_ns = now;
    connect_to(v, opt.port);
  } else if (v->stage == READY) {
    v->start_ns = now;
    ask(v, opt.request);
  }
}

static void connected(Viewer *v, int all_ready) {
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = v};
  epoll_ctl(epoll_fd, EPOLL_CTL_MOD, v->fd, &e);
  if (v->following) ask(v, followed_url(v));
  else if (all_ready) ask(v, opt.request);
  else v->stage = READY;
}

/* -- the run ------------------------------------------------------------------------------------------- */

static char *read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  char *text = calloc(1, HEAD_BYTES);
  if (!file || !text) die(path);
  if (!fread(text, 1, HEAD_BYTES - 1, file)) die(path);
  fclose(file);
  return text;
}

static void read_options(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const char *name = argv[i];
    if (!strcmp(name, "--preconnect")) opt.preconnect = 1;
    else if (!strcmp(name, "--idle")) opt.idle = 1;
    else if (!strcmp(name, "--resumed")) opt.resumed = 1;
    else if (!strcmp(name, "--stay")) opt.stay = 1;
    else if (i + 1 == argc) exit(2);
    else if (!strcmp(name, "--request")) opt.request = read_file(argv[++i]);
    else if (!strcmp(name, "--follow")) opt.follow = read_file(argv[++i]);
    else if (!strcmp(name, "--port")) opt.port = atoi(argv[++i]);
    else if (!strcmp(name, "--follow-port")) opt.follow_port = atoi(argv[++i]);
    else if (!strcmp(name, "--count")) opt.count = atoi(argv[++i]);
    else if (!strcmp(name, "--tokens")) opt.tokens = atol(argv[++i]);
    else if (!strcmp(name, "--ramp-ms")) opt.ramp_ms = atoi(argv[++i]);
    else if (!strcmp(name, "--from-ms")) opt.from_ms = atoi(argv[++i]);
    else if (!strcmp(name, "--to-ms")) opt.to_ms = atoi(argv[++i]);
    else if (!strcmp(name, "--timeout-ms")) opt.timeout_ms = atoi(argv[++i]);
    else {
      fprintf(stderr, "no such option: %s\n", name);
      exit(2);
    }
  }
  if (!opt.request || !opt.port) exit(2);
  if (!opt.follow_port) opt.follow_port = opt.port;
}

static double ms(int64_t from, int64_t to) { return from && to ? (to - from) / 1e6 : -1; }

static void report(void) {
  long tokens = 0, events = 0, chunks = 0, reads = 0, bytes = 0, wrong = 0, restarts = 0;
  int64_t last = 0;
  for (int i = 0; i < opt.count; i++) {
    Viewer *v = &viewers[i];
    printf("{\"kind\":\"stream\",\"viewer\":%d,\"status\":%d,\"tokens\":%ld,\"events\":%ld,\"chunks\":%ld,"
           "\"reads\":%ld,\"bytes\":%ld,\"wrong\":%d,\"restarts\":%d,\"first_ms\":%.3f,\"first_latency_ms\":%.3f,"
           "\"last_ms\":%.3f}\n",
           i, v->status, v->tokens, v->events, v->chunks, v->reads, v->bytes, v->wrong, v->restarts,
           ms(v->asked_ns, v->first_ns), ms(v->first_stamp_ns, v->first_ns), ms(began_ns, v->last_ns));
    tokens += v->tokens, events += v->events, chunks += v->chunks, reads += v->reads, bytes += v->bytes;
    wrong += v->wrong, restarts += v->restarts;
    if (v->last_ns > last) last = v->last_ns;
  }
  printf("{\"kind\":\"total\",\"viewers\":%d,\"opened\":%d,\"tokens\":%ld,\"events\":%ld,\"chunks\":%ld,"
         "\"reads\":%ld,\"bytes\":%ld,\"wrong\":%ld,\"restarts\":%ld,\"last_ms\":%.3f,\"counted\":%ld,\"latency\":[",
         opt.count, opened, tokens, events, chunks, reads, bytes, wrong, restarts, ms(began_ns, last), counted);
  const char *comma = "";
  for (int i = 0; i < BUCKETS; i++) {
    if (!latency[i]) continue;
    printf("%s[%lld,%lld]", comma, (long long)floor_of(i), (long long)latency[i]);
    comma = ",";
  }
  printf("]}\n");
}

int main(int argc, char **argv) {
  read_options(argc, argv);
  struct sched_param no_priority = {0};
  if (sched_setscheduler(0, SCHED_BATCH, &no_priority)) die("sched_setscheduler");
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  signal(SIGPIPE, SIG_IGN);
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (!(viewers = calloc((size_t)opt.count, sizeof *viewers))) die("calloc");
  char *buffer = malloc(READ_BYTES);
  if (!buffer) die("malloc");
  struct epoll_event events[512];
  if (opt.idle || opt.stay) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &e);
  }
  for (int i = 0; i < opt.count; i++) {
    viewers[i].fd = -1;
    if (opt.preconnect) connect_to(&viewers[i], opt.port);
  }
  int started = 0, ready = 0, stop = 0;
  began_ns = now_ns();
  if (opt.preconnect) started = opt.count; /* they start when all are connected, spread over the ramp */
  int64_t go_ns = opt.preconnect ? 0 : began_ns, deadline = began_ns + opt.timeout_ms * 1000000LL;
  int asked = opt.preconnect ? 0 : opt.count;
  while (!stop && ended < opt.count) {
    int64_t now = now_ns();
    if (now > deadline) break;
    if (opt.preconnect && !go_ns && ready == opt.count) began_ns = go_ns = now;
    int *next = opt.preconnect ? &asked : &started;
    while (go_ns && *next < opt.count && now - go_ns >= (int64_t)*next * opt.ramp_ms * 1000000LL / opt.count)
      start(&viewers[(*next)++], now);
    int count = epoll_wait(epoll_fd, events, 512, *next < opt.count && go_ns ? 1 : 100);
    for (int i = 0; i < count; i++) {
      Viewer *v = events[i].data.ptr;
      if (!v) {
        stop = read(0, buffer, READ_BYTES) <= 0;
        continue;
      }
      if (v->stage == ENDED) continue;
      if (v->stage == CONNECTING) {
        if (events[i].events & EPOLLERR) end(v);
        else if (events[i].events & EPOLLOUT) connected(v, !opt.preconnect), ready++;
        continue;
      }
      ssize_t n = recv(v->fd, buffer, READ_BYTES, 0);
      read_ns = now_ns();
      if (n > 0) take(v, buffer, (size_t)n);
      else if (n == 0 || errno != EAGAIN) end(v);
    }
  }
  report();
  return 0;
}
