/**
 * Is it a SPIFFE ID with a path, and so the name of a workload? SPIFFE-ID §2: a trust domain of lower-case letters, digits,
 * dots, dashes and underscores (255 at most), path segments of letters, digits and the same, none of them `.` or `..`; 2048
 * bytes in all.
 */
export const isSpiffeId = (value: string): boolean =>
  value.length <= 2048 &&
  /^spiffe:\/\/[a-z0-9._-]{1,255}(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._-]+)+$/.test(value)
