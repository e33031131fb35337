// Speaks to Headrace by an unchanged `ai` from npm, in scenarios: node ai_sdk.mjs PACKAGE.
import { serve } from "./scenarios.mjs";

const [name] = process.argv.slice(2);
const ai = await import(name);

class State {
  status = "ready";
  error = undefined;
  constructor(messages) { this.messages = messages; }
  pushMessage = (message) => { this.messages = [...this.messages, structuredClone(message)]; };
  popMessage = () => { this.messages = this.messages.slice(0, -1); };
  replaceMessage = (n, message) => { this.messages = this.messages.with(n, structuredClone(message)); };
  snapshot = (thing) => structuredClone(thing);
}

class Chat extends ai.AbstractChat {
  finishes = [];
  constructor(given, { messages = [], fetch, ...more } = {}) {
    super({
      id: given.chat,
      state: new State(messages),
      transport: new ai.DefaultChatTransport({
        api: `${given.url}/api/chat`, body: given.body, headers: given.headers, fetch,
        prepareReconnectToStreamRequest: given.seen === undefined ? undefined
          : ({ id, api }) => ({ api: `${api}/${id}/stream?seen=${given.seen}` }),
      }),
      onFinish: ({ message, isAbort, isError, isDisconnect, finishReason }) =>
        this.finishes.push({ id: message.id, isAbort, isError, isDisconnect, finishReason }),
      ...more,
    });
  }
  told() {
    return { status: this.status, error: this.error?.message, messages: this.messages, finishes: this.finishes };
  }
}

// A fetch whose response breaks off behind so many events, as a lost network does.
function cutBehind(count) {
  return async (...asked) => {
    const response = await fetch(...asked);
    if (!response.body || response.status !== 200) return response;
    let seen = 0, rest = "";
    const cut = new TransformStream({
      async transform(bytes, controller) {
        rest += new TextDecoder().decode(bytes);
        for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) {
          const event = rest.slice(0, end + 2);
          if (event.includes("data: ") && seen++ >= count) {
            await new Promise((done) => setTimeout(done, 10)); // else what came before it may be lost, too
            throw new TypeError("network error");
          }
          controller.enqueue(new TextEncoder().encode(event));
        }
      },
    });
    return new Response(response.body.pipeThrough(cut), response);
  };
}

const until = async (holds) => { while (!holds()) await new Promise((done) => setTimeout(done, 10)); };
const said = (chat) => chat.messages.filter((message) => message.role === "assistant")
  .flatMap((message) => message.parts).filter((part) => part.type === "text" && part.text);
const ask = (chat, given) =>
  chat.sendMessage(given.parts ? { role: "user", parts: given.parts } : { text: given.text });

// What a page with ai 5 keeps of the messages, as docs/ai-sdk.md says: no answer that was cut in a tool's input.
const isCutInInput = (message) => message?.parts.some((part) => part.state === "input-streaming");
const kept = (messages) => (name === "ai5" && isCutInInput(messages.at(-1)) ? messages.slice(0, -1) : messages);

await serve({
  async ask(given) {
    const chat = new Chat(given, { messages: given.messages });
    await ask(chat, given);
    return chat.told();
  },
  // The stream itself, without a chat around it.
  async read(given) {
    const transport = new ai.DefaultChatTransport({ api: `${given.url}/api/chat`, headers: given.headers });
    const user = { id: "u1", role: "user", parts: [{ type: "text", text: given.text }] };
    const stream = await transport.sendMessages(
      { chatId: given.chat, messages: [user], trigger: "submit-message", messageId: undefined });
    let last;
    for await (const message of ai.readUIMessageStream({ stream })) last = message;
    return last;
  },
  // What whole streams, given as the bytes of their events, make of a message.
  async reduce(given) {
    const transport = new ai.DefaultChatTransport();
    const made = [];
    for (const raw of given.streams) {
      const stream = transport.processResponseStream(new Response(raw).body);
      let last = null, failed = null;
      const onError = (error) => { failed = error.message; };
      for await (const message of ai.readUIMessageStream({ stream, onError })) last = message;
      made.push({ message: last, failed });
    }
    return made;
  },
  // A page that is reloaded.
  async resume(given) {
    const chat = new Chat(given, { messages: given.messages });
    await chat.resumeStream();
    return chat.told();
  },
  // Breaks off behind each event in turn, and resumes, until one response comes whole. The provider holds the answer
  // open: its end comes when there is nothing else to cut.
  async cuts(given) {
    let cuts = 0;
    const about = {
      fetch: async (...asked) => {
        const response = await cutBehind(cuts)(...asked);
        const last = setTimeout(async () => {
          await fetch(given.release, { method: "POST", body: given.releaseBody });
        }, 1000);
        return new Response(response.body?.pipeThrough(new TransformStream({
          transform(bytes, controller) { last.refresh(); controller.enqueue(bytes); },
          flush() { clearTimeout(last); },
          cancel() { clearTimeout(last); },
        })), response);
      },
    };
    let chat = new Chat(given, about);
    await ask(chat, given);
    for (; chat.status === "error"; await chat.resumeStream()) {
      cuts += 1;
      if (given.anew) chat = new Chat(given, { ...about, messages: kept(chat.messages) });
    }
    return { ...chat.told(), cuts };
  },
  async stop(given) {
    const chat = new Chat(given);
    const asked = ask(chat, given);
    await until(() => said(chat).length > 0);
    const stopped = await fetch(`${given.url}/api/chat/${chat.id}/stop`, { method: "POST" });
    if (given.leave) await chat.stop();
    await asked;
    return { ...chat.told(), stopped: stopped.status };
  },
  // A tool that runs at the client, and the answer to what it gave.
  async tool(given) {
    const called = [];
    const chat = new Chat(given, {
      async onToolCall({ toolCall }) {
        const { toolName: tool, toolCallId } = toolCall;
        if (called.push(toolCall) === 1) chat.addToolOutput({ tool, toolCallId, output: given.output });
      },
      sendAutomaticallyWhen: ai.lastAssistantMessageIsCompleteWithToolCalls,
    });
    const asked = ask(chat, given);
    if (given.resumes) {
      // The page is reloaded while the second answer comes.
      await until(() => said(chat).length > 1);
      const again = new Chat(given, {
        messages: structuredClone(chat.messages),
        onToolCall: ({ toolCall }) => { called.push(toolCall); },
      });
      await again.resumeStream();
      await asked;
      return { ...again.told(), called, uncut: chat.messages };
    }
    await asked;
    return { ...chat.told(), called };
  },
});
