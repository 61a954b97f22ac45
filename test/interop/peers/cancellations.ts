/** How often a client gave a call up in what it wrote; server-everything itself does not tell. */
export const countCancellations = (text: string): number =>
  text.match(/"method"\s*:\s*"notifications\/cancelled"/g)?.length ?? 0
