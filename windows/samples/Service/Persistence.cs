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
        private static readonly TimeSpan Pause = TimeSpan.FromSeconds(30);

        /// <summary>Tries to start, again after each change, as long as it fails for a reason that may pass.</summary>
        /// <param name="start">Starts, and throws if that fails.</param>
        /// <param name="mayPass">Whether it may work another time. What else is thrown ends the attempts.</param>
        /// <param name="waiting">Is told why the first attempt failed.</param>
        /// <param name="change">Ends with the next change, or when its token is cancelled. Doesn't throw.</param>
        /// <param name="stopping">Ends the attempts with an <see cref="OperationCanceledException"/>.</param>
        internal static async Task<T> Start<T>(Func<T> start, Func<Exception, bool> mayPass, Action<Exception> waiting,
            Func<CancellationToken, Task> change, CancellationToken stopping)
        {
            for (bool isFirst = true; ; isFirst = false)
            {
                stopping.ThrowIfCancellationRequested();
                using (CancellationTokenSource ended = CancellationTokenSource.CreateLinkedTokenSource(stopping))
                {
                    // Before the attempt, so that no change is missed.
                    Task changed = change(ended.Token);
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
                    await changed.ConfigureAwait(false);
                }
            }
        }

        /// <summary>Ends when the machine's addresses have changed, after a while, or with the token.</summary>
        internal static async Task NetworkChange(CancellationToken ended)
        {
            TaskCompletionSource<bool> changed = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
            NetworkAddressChangedEventHandler tell = (sender, nothing) => changed.TrySetResult(true);
            System.Net.NetworkInformation.NetworkChange.NetworkAddressChanged += tell;
            try
            {
                await Task.WhenAny(changed.Task, Task.Delay(Pause, ended)).ConfigureAwait(false);
            }
            finally
            {
                System.Net.NetworkInformation.NetworkChange.NetworkAddressChanged -= tell;
            }
        }
    }
}
