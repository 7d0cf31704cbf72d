using System;
using System.Net.NetworkInformation;
using System.Threading;
using System.Threading.Tasks;

namespace ExampleVpn
{
    /// <summary>Starting what needs a network, on a machine that may boot without one.</summary>
    internal static class Persistence
    {
        /// <summary>Name servers may answer only some time after the address is there, and nobody tells of that.</summary>
        internal static readonly TimeSpan FirstPause = TimeSpan.FromSeconds(5);
        /// <summary>Where the doubling ends: what lasts so long is not mended by trying more often.</summary>
        internal static readonly TimeSpan LongestPause = TimeSpan.FromMinutes(15);

        /// <summary>
        /// Tries to start, again after each change and after pauses that double, as long as it fails for a reason that may pass.
        /// </summary>
        /// <param name="start">Starts, and throws if that fails.</param>
        /// <param name="mayPass">Whether it may work another time. What else is thrown ends the attempts.</param>
        /// <param name="waiting">Is told why the first attempt failed.</param>
        /// <param name="change">
        /// Ends with the next change, and then is true, after the pause, or when its token is cancelled. Doesn't throw.
        /// </param>
        /// <param name="stopping">Ends the attempts with an <see cref="OperationCanceledException"/>.</param>
        internal static async Task<T> Start<T>(Func<T> start, Func<Exception, bool> mayPass, Action<Exception> waiting,
            Func<TimeSpan, CancellationToken, Task<bool>> change, CancellationToken stopping)
        {
            TimeSpan pause = FirstPause;
            for (bool isFirst = true; ; isFirst = false)
            {
                stopping.ThrowIfCancellationRequested();
                using (CancellationTokenSource ended = CancellationTokenSource.CreateLinkedTokenSource(stopping))
                {
                    // Before the attempt, so that no change is missed.
                    Task<bool> changed = change(pause, ended.Token);
                    try
                    {
                        T started = start();
                        ended.Cancel();
                        return started;
                    }
                    catch (Exception error) when (mayPass(error))
                    {
                        if (isFirst)
                        {
                            waiting(error);
                        }
                    }
                    catch
                    {
                        ended.Cancel();
                        throw;
                    }
                    bool isOther = await changed.ConfigureAwait(false);
                    long doubled = Math.Min(2 * pause.Ticks, LongestPause.Ticks);
                    pause = isOther ? FirstPause : TimeSpan.FromTicks(doubled);
                }
            }
        }

        /// <summary>Ends when the machine's addresses have changed, and then is true, after the pause, or with the token.</summary>
        internal static async Task<bool> NetworkChange(TimeSpan pause, CancellationToken ended)
        {
            TaskCompletionSource<bool> changed = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
            NetworkAddressChangedEventHandler tell = (sender, nothing) => changed.TrySetResult(true);
            System.Net.NetworkInformation.NetworkChange.NetworkAddressChanged += tell;
            try
            {
                await Task.WhenAny(changed.Task, Task.Delay(pause, ended)).ConfigureAwait(false);
                return changed.Task.IsCompleted;
            }
            finally
            {
                System.Net.NetworkInformation.NetworkChange.NetworkAddressChanged -= tell;
            }
        }
    }
}
