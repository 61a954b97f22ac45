import { accessSync, constants } from 'node:fs'

/** Tells why a file that a setting names can not be read; says nothing where it can. */
export function checkReadable(path: string, problem: (message: string) => void): void {
  try {
    accessSync(path, constants.R_OK)
  } catch (error) {
    problem(`${path} can not be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`)
  }
}
