export function Message({ message }) {
  const { model, usage } = message.metadata ?? {};
  return (
    <article className={message.role} data-message={message.id}>
      {message.parts.map((part, n) => <Part key={n} part={part} />)}
      {usage && (
        <footer>{model} · {usage.input_tokens} tokens in · {usage.output_tokens} out</footer>
      )}
    </article>
  );
}

function Part({ part }) {
  if (part.type === "text") return <p className="text">{part.text}</p>;
  if (part.type === "reasoning") {
    return (
      <details className="reasoning">
        <summary>{part.state === "streaming" ? "Thinking …" : "Thought"}</summary>
        <p>{part.text}</p>
      </details>
    );
  }
  if (part.type.startsWith("tool-")) return <Tool part={part} />;
  return null; // steps, sources, what a provider wants back
}

function Tool({ part }) {
  return (
    <section className="tool" data-state={part.state}>
      <h2>{part.type.slice("tool-".length)} <code>{JSON.stringify(part.input ?? {})}</code></h2>
      {part.state === "output-available" && <ul>{part.output.notes.map((note) => <li key={note}>{note}</li>)}</ul>}
      {part.state === "output-error" && <p className="bad">{part.errorText}</p>}
    </section>
  );
}
