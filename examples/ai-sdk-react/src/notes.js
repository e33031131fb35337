// The tool of this page: it runs in the browser, on what only the browser has.
const NOTES = [
  "The highest tide of the year comes at the end of September: 4.2 m at the old mill.",
  "The mill race is opened two hours before high water.",
  "The wheel turns at eleven revolutions a minute, and at seven in summer.",
];

export const LOOK_UP = {
  name: "look_up",
  description: "Searches the notes that the user keeps in this browser.",
  parameters: {
    type: "object",
    properties: { query: { type: "string", description: "a word or two" } },
    required: ["query"],
  },
};

export function lookUp({ query }) {
  const words = String(query).toLowerCase().split(/\s+/);
  const found = NOTES.filter((note) => words.some((word) => note.toLowerCase().includes(word)));
  return { notes: found.length ? found : NOTES };
}
