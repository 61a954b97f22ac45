import type { Scene } from './scene.ts'

export interface Case {
  readonly name: string
  /** What distributions may differ in: part of the short run. */
  readonly short?: true
  /** Throws where the behaviour is not there; `note` prints a figure. */
  run(scene: Scene, note: (text: string) => void): Promise<void>
}
