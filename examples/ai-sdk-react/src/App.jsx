import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from "ai";
import { useEffect, useRef, useState } from "react";
import { Message } from "./Message.jsx";
import { LOOK_UP, lookUp } from "./notes.js";
import { forgetChat, loadChat, saveMessages } from "./store.js";

const AI_VERSION = "7.0.173"; // of the package "ai": from 7.0.70 on it can show an answer that begins anew
const COME_BACK_MS = 1000;

// A proxy says by a status that the server is away: for a page that comes back this is a lost connection, too.
async function fetchOrLose(url, init) {
  const response = await fetch(url, init);
  if (init.method === "GET" && response.status >= 500) throw new TypeError("the server is away");
  return response;
}

const transport = new DefaultChatTransport({
  fetch: fetchOrLose,
  headers: { "X-AI-SDK-Version": AI_VERSION },
  body: { tools: [LOOK_UP] },
});

export function App() {
  const [chat, setChat] = useState(loadChat);
  const [draft, setDraft] = useState("");
  const load = () => setChat(loadChat());
  const begin = () => { forgetChat(); load(); };
  // Coming back is what a reload is: a chat made anew, from what was kept.
  return <Chat key={chat.loaded} {...chat} {...{ draft, setDraft }} onNew={begin} onLost={load} />;
}

function Chat({ id, messages: kept, draft, setDraft, onNew, onLost }) {
  const { messages, sendMessage, status, stop, error, addToolOutput } = useChat({
    id,
    messages: kept,
    transport,
    resume: true, // a page that is loaded anew asks for the answer that is on its way
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    onToolCall({ toolCall }) {
      const { toolName: tool, toolCallId, input } = toolCall;
      if (tool === LOOK_UP.name) addToolOutput({ tool, toolCallId, output: lookUp(input) });
    },
  });
  const busy = status === "submitted" || status === "streaming";
  // A lost connection is no failure of the answer: that goes on, and is asked for again.
  const lost = error instanceof TypeError || error?.message.startsWith("This connection ends");

  useEffect(() => { if (status !== "streaming") saveMessages(messages); }, [messages, status]);
  useEffect(() => {
    if (!lost) return;
    const timer = setTimeout(onLost, COME_BACK_MS);
    return () => clearTimeout(timer);
  }, [lost]);
  const end = useRef(null);
  useEffect(() => { if (busy) end.current.scrollIntoView({ block: "end" }); }, [messages, busy]);

  // stop() alone only closes the connection, and the answer would go on.
  async function stopAnswer() {
    await fetch(`/api/chat/${id}/stop`, { method: "POST" });
    await stop();
  }

  return (
    <div className="page" data-status={status}>
      <header>
        <h1>useChat <span>over</span> Headrace</h1>
        <button className="quiet" onClick={onNew} disabled={busy}>New chat</button>
      </header>
      <main>
        {messages.length === 0 && (
          <p className="hint">
            Ask something, and reload the page while the answer comes: nothing of it is lost.
          </p>
        )}
        {messages.map((message) => <Message key={message.id} message={message} />)}
        {status === "submitted" && <p className="waits" aria-label="waiting"><i /><i /><i /></p>}
        {lost && <p className="notice" role="status">The connection was lost. Coming back …</p>}
        {error && !lost && <p className="notice bad" role="alert">{error.message}</p>}
        <div ref={end} />
      </main>
      <Composer {...{ draft, setDraft, busy }} onSend={(text) => sendMessage({ text })} onStop={stopAnswer} />
    </div>
  );
}

function Composer({ draft, setDraft, busy, onSend, onStop }) {
  const send = (event) => {
    event.preventDefault();
    if (busy || !draft.trim()) return;
    onSend(draft);
    setDraft("");
  };
  return (
    <form className="composer" onSubmit={send}>
      <input
        aria-label="Your message"
        placeholder="Ask about the tide, the mill, or anything"
        value={draft}
        onChange={(event) => setDraft(event.target.value)}
        autoFocus
      />
      {busy ? <button type="button" onClick={onStop}>Stop</button> : <button disabled={!draft.trim()}>Send</button>}
    </form>
  );
}
