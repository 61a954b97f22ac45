/** A reason why the appliance can not start that is the person's to change: shown as it is, exit code 2. */
export class Problem extends Error {
  override readonly name = 'Problem'
}
