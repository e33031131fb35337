"""`make hostile`: attacks on real processes, and a bystander who must not notice them.

Theory of operation. Redis, API processes and workers run as in production, with a key for the attacker
(``mallory``), keys for her friends, and one for the *bystander* (``ann``). The bystander is a process of its own
(:mod:`tests.hostile.bystander`): it holds the provider that answers it, follows streams of 20 tokens/s through
each API process, and creates a short stream twice a second. So the attacker's own work delays neither the tokens
nor the clock that measures them.

An attack (:class:`tests.hostile.attack.Attack`) runs for some seconds. It notes an *outcome* for each thing that it
tried: an HTTP status with the problem's code, or how the connection ended. After that three things are judged:

*The bystander.* No token, no create and no first token of a new stream takes longer than 500 ms. The bystander's
process has a clock that tells how late the machine itself was; that time is subtracted. Linux tells for how long
the processes were ready to run and had no processor: a wait counts by the share that they had, but at least by a
quarter. Where only the time is wrong, the attack is repeated once and the better time counts, since a busy machine
seldom stops twice in one place.

*Memory.* The peak resident size of each process (``VmHWM``, reset before the attack) may exceed the size before the
attack by the bound of the attack only.

*Refusals.* At least one of the outcomes in which the attack must end was seen, and no outcome was seen that it must
not have.

The attacker calls from other loopback addresses than the bystander, as another machine would.
"""
