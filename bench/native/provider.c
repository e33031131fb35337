/* A provider that costs nearly nothing: OpenAI's wire format, streamed, with timestamps as text.
 *
 * One thread and epoll. The prompt says what to stream: "tokens=400 rate=50 delay_ms=20 hold_ms=0"; with "gate=1"
 * the delay begins at the next GET /go, and hold_ms is the pause between the last token and the end. A token's
 * text is "<number>@<CLOCK_MONOTONIC, ns> ", stamped when it is written. So a receiver on this machine knows how long
 * the token took, and whether one is missing. Each token is one chunk and one send(), as with real providers. Tokens
 * that are due within the same millisecond share one wake-up of this process.
 *
 * GET /stats returns how much it has sent, and how late (its own lag is not the contender's latency).
 * Prints its port on the first line. Ends at SIGTERM, or with its parent (see processes.py).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
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

enum {
  MAX_FD = 16384,           /* streams at once; the benchmark opens at most a few thousand */
  MAX_REQUEST = 256 * 1024, /* a request is a prompt of one line */
  MAX_UNSENT = 1024 * 1024, /* bytes for a client that does not read; at more its stream pauses */
  LAG_BUCKETS = 4096,       /* of 0.1 ms each */
};

typedef struct {
  int fd, heap_at; /* heap_at: place in the heap, -1 for none */
  char *in;
  size_t in_len, in_size;
  char *out; /* bytes that the socket did not accept yet */
  size_t out_from, out_len, out_size;
  int64_t due_ns, interval_ns, hold_ns;
  long token, tokens;
  int gated; /* waits for GET /go */
} Conn;

static Conn *conns[MAX_FD];
static Conn *heap[MAX_FD];
static int heap_len, epoll_fd;
static long sent_tokens, answers, lag_hist[LAG_BUCKETS];

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

/* -- a heap of streams by what is due next ------------------------------------------------------------- */

static void place(int at, Conn *c) {
  heap[at] = c;
  c->heap_at = at;
}

static void sift(int at) {
  Conn *c = heap[at];
  while (at > 0 && heap[(at - 1) / 2]->due_ns > c->due_ns) {
    place(at, heap[(at - 1) / 2]);
    at = (at - 1) / 2;
  }
  for (;;) {
    int child = 2 * at + 1;
    if (child >= heap_len) break;
    if (child + 1 < heap_len && heap[child + 1]->due_ns < heap[child]->due_ns) child++;
    if (heap[child]->due_ns >= c->due_ns) break;
    place(at, heap[child]);
    at = child;
  }
  place(at, c);
}

static void schedule(Conn *c, int64_t due_ns) {
  c->due_ns = due_ns;
  if (c->heap_at < 0) place(heap_len++, c);
  sift(c->heap_at);
}

static void unschedule(Conn *c) {
  int at = c->heap_at;
  if (at < 0) return;
  c->heap_at = -1;
  if (at == --heap_len) return;
  place(at, heap[heap_len]);
  sift(at);
}

/* -- connections --------------------------------------------------------------------------------------- */

static void drop(Conn *c) {
  unschedule(c);
  conns[c->fd] = NULL;
  close(c->fd);
  free(c->in);
  free(c->out);
  free(c);
}

static void watch(Conn *c, int op, uint32_t events) {
  struct epoll_event e = {.events = events, .data.fd = c->fd};
  if (epoll_ctl(epoll_fd, op, c->fd, &e) < 0) die("epoll_ctl");
}

/* Send, and keep what the socket does not accept. False: the client is gone. */
static int put(Conn *c, const char *data, size_t len) {
  size_t waiting = c->out_len - c->out_from;
  if (!waiting) {
    ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
    if (n == (ssize_t)len) return 1;
    if (n < 0 && errno != EAGAIN) return 0;
    if (n > 0) data += n, len -= (size_t)n;
    c->out_from = c->out_len = 0;
    watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
  }
  if (c->out_len + len > c->out_size) {
    c->out_size = 2 * (c->out_len + len);
    if (!(c->out = realloc(c->out, c->out_size))) die("realloc");
  }
  memcpy(c->out + c->out_len, data, len);
  c->out_len += len;
  return 1;
}

static int drain(Conn *c) {
  ssize_t n = send(c->fd, c->out + c->out_from, c->out_len - c->out_from, MSG_NOSIGNAL);
  if (n < 0) return errno == EAGAIN;
  c->out_from += (size_t)n;
  if (c->out_from == c->out_len) {
    c->out_from = c->out_len = 0;
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
  }
  return 1;
}

static int put_event(Conn *c, const char *json) {
  char text[1024];
  size_t len = strlen(json) + 8; /* "data: " and the blank line */
  int n = snprintf(text, sizeof text, "%zx\r\ndata: %s\n\n\r\n", len, json);
  return put(c, text, (size_t)n);
}

#define CHUNK "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1795341803,\"model\":\"bench\","

static int put_token(Conn *c) {
  char json[512];
  const char *role = c->token ? "" : "\"role\":\"assistant\",";
  snprintf(json, sizeof json,
           CHUNK "\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\"%ld@%lld \"},\"finish_reason\":null}]}", role,
           c->token, (long long)now_ns());
  return put_event(c, json);
}

static int put_end(Conn *c) {
  char usage[512];
  snprintf(usage, sizeof usage,
           CHUNK "\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":%ld,\"total_tokens\":%ld}}",
           c->tokens, c->tokens + 9);
  answers++;
  return put_event(c, CHUNK "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}") &&
         put_event(c, usage) && put_event(c, "[DONE]") && put(c, "0\r\n\r\n", 5);
}

/* Send what is due for this stream. False: the client is gone. */
static int step(Conn *c, int64_t now) {
  if (c->token >= c->tokens) {
    unschedule(c);
    return put_end(c);
  }
  long lag = (now - c->due_ns) / 100000;
  lag_hist[lag < 0 ? 0 : lag < LAG_BUCKETS ? lag : LAG_BUCKETS - 1]++;
  if (c->out_len - c->out_from > MAX_UNSENT) { /* a real provider also waits for its client */
    schedule(c, now + c->interval_ns);
    return 1;
  }
  if (!put_token(c)) return 0;
  c->token++;
  sent_tokens++;
  int64_t next = c->due_ns + c->interval_ns;
  if (now - next > 1000000000) next = now; /* more than a second late: do not catch up */
  schedule(c, c->token < c->tokens ? next : next + c->hold_ns);
  return 1;
}

static double asked(const char *body, const char *name, double otherwise) {
  const char *at = strstr(body, name);
  return at ? atof(at + strlen(name)) : otherwise;
}

static int put_stats(Conn *c) {
  long total = 0, below = 0, p99 = 0, most = 0;
  for (int i = 0; i < LAG_BUCKETS; i++) total += lag_hist[i];
  for (int i = 0; i < LAG_BUCKETS; i++) {
    if (!lag_hist[i]) continue;
    below += lag_hist[i];
    most = i + 1;
    if (!p99 && below * 100 >= total * 99) p99 = i + 1;
  }
  char body[256], text[512];
  int n = snprintf(body, sizeof body, "{\"tokens\":%ld,\"answers\":%ld,\"lag_p99_us\":%ld,\"lag_max_us\":%ld}",
                   sent_tokens, answers, p99 * 100, most * 100);
  memset(lag_hist, 0, sizeof lag_hist); /* each call reports the time since the last one */
  n = snprintf(text, sizeof text,
               "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", n, body);
  return put(c, text, (size_t)n);
}

static int open_gate(Conn *asking) {
  for (int fd = 0; fd < MAX_FD; fd++) {
    Conn *c = conns[fd];
    if (!c || !c->gated) continue;
    c->gated = 0;
    schedule(c, now_ns() + c->due_ns);
  }
  const char *text = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
  return put(asking, text, strlen(text));
}

/* Handle one whole request. False: the client is gone. */
static int serve(Conn *c, const char *head, const char *body) {
  if (!strncmp(head, "GET /stats", 10)) return put_stats(c);
  if (!strncmp(head, "GET /go", 7)) return open_gate(c);
  if (strncmp(head, "POST ", 5) || !strstr(head, "/chat/completions")) {
    const char *text = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    return put(c, text, strlen(text));
  }
  c->token = 0;
  c->tokens = (long)asked(body, "tokens=", 400);
  c->interval_ns = (int64_t)(1e9 / asked(body, "rate=", 50));
  c->hold_ns = (int64_t)(1e6 * asked(body, "hold_ms=", 0));
  c->due_ns = (int64_t)(1e6 * asked(body, "delay_ms=", 0));
  c->gated = asked(body, "gate=", 0) > 0;
  if (!c->gated) schedule(c, now_ns() + c->due_ns);
  const char *text =
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
      "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
  return put(c, text, strlen(text));
}

static int take(Conn *c) {
  if (c->in_size - c->in_len < 8192) {
    if (c->in_size > MAX_REQUEST) return 0;
    c->in_size = 2 * c->in_size + 8192;
    if (!(c->in = realloc(c->in, c->in_size))) die("realloc");
  }
  ssize_t n = recv(c->fd, c->in + c->in_len, c->in_size - c->in_len - 1, 0);
  if (n <= 0) return n < 0 && errno == EAGAIN;
  c->in_len += (size_t)n;
  c->in[c->in_len] = 0;
  for (;;) {
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end) return 1;
    *end = 0;
    char *length = strcasestr(c->in, "content-length:");
    size_t body_len = length ? (size_t)atol(length + 15) : 0;
    size_t whole = (size_t)(end + 4 - c->in) + body_len;
    if (c->in_len < whole) {
      *end = '\r';
      return 1;
    }
    char kept = c->in[whole];
    c->in[whole] = 0;
    if (!serve(c, c->in, end + 4)) return 0;
    c->in[whole] = kept;
    memmove(c->in, c->in + whole, c->in_len - whole + 1);
    c->in_len -= whole;
  }
}

static void admit(int listener) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    if (fd >= MAX_FD) {
      close(fd);
      continue;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    Conn *c = calloc(1, sizeof *c);
    if (!c) die("calloc");
    c->fd = fd;
    c->heap_at = -1;
    conns[fd] = c;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
  }
}

static int listen_anywhere(void) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof at;
  if (fd < 0 || bind(fd, (struct sockaddr *)&at, len) < 0 || listen(fd, 4096) < 0) die("listen");
  getsockname(fd, (struct sockaddr *)&at, &len);
  printf("%d\n", ntohs(at.sin_port));
  fflush(stdout);
  return fd;
}

int main(void) {
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  signal(SIGPIPE, SIG_IGN);
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  int listener = listen_anywhere();
  struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, events[256];
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
  for (;;) {
    int wait_ms = 1000;
    if (heap_len) {
      int64_t left = heap[0]->due_ns - now_ns();
      wait_ms = left <= 0 ? 0 : left > 1000000000 ? 1000 : (int)(left / 1000000) + 1;
    }
    int count = epoll_wait(epoll_fd, events, 256, wait_ms);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        admit(fd);
        continue;
      }
      Conn *c = conns[fd];
      if (!c) continue;
      int fine = !(events[i].events & EPOLLERR);
      if (fine && (events[i].events & EPOLLOUT)) fine = drain(c);
      if (fine && (events[i].events & (EPOLLIN | EPOLLHUP))) fine = take(c);
      if (!fine) drop(c);
    }
    int64_t now = now_ns();
    while (heap_len && heap[0]->due_ns <= now) {
      Conn *c = heap[0];
      if (!step(c, now)) drop(c);
    }
  }
}
