using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace Tuntrail
{
    /// <summary>
    /// A <see cref="Client"/> with tasks and .NET events. Everything that it has no method for is at <see cref="Client"/>; only its
    /// listener is taken. Any thread may call any method.
    /// </summary>
    /// <remarks>
    /// Events come one at a time on the client's own thread. While a handler takes its time, others wait, up to 256; a user interface
    /// passes them on to its own thread. What a handler throws is counted in <see cref="EventStats.Failed"/> and otherwise ignored.
    /// </remarks>
    public sealed class TuntrailClient : IDisposable
    {
        private readonly Uploads uploads = new Uploads();

        /// <summary>Starts a client. May wait for the disk.</summary>
        /// <exception cref="TuntrailException">The configuration is wrong, or the folder for records can't be used.</exception>
        public TuntrailClient(ClientConfig config)
        {
            Client = new Client(config);
            try
            {
                Client.SetListener(new Listener(this));
            }
            catch
            {
                Client.Dispose();
                throw;
            }
        }

        /// <summary>What this stands on.</summary>
        public Client Client { get; }

        /// <summary>An upload has come further, whoever asked for it. Where many come at once, only the last does.</summary>
        public event EventHandler<UploadProgressEventArgs> UploadProgressed;

        /// <summary>An upload has ended, also one of an earlier run that went on by itself.</summary>
        public event EventHandler<UploadEndedEventArgs> UploadEnded;

        /// <summary>With <see cref="UploadSettings.HostTransport"/>: there is something to send.</summary>
        public event EventHandler UploadWorkWaiting;

        /// <summary>The tunnel reaches a peer, for the first time or again.</summary>
        public event EventHandler<PeerEventArgs> PeerConnected;

        /// <summary>A peer has not answered for 90 seconds.</summary>
        public event EventHandler<PeerEventArgs> PeerSilent;

        /// <summary>The adapter is gone: the tunnel carries nothing any more and wants to be stopped.</summary>
        public event EventHandler TunnelDeviceEnded;

        /// <summary>The tunnel has failed: the client's log says why. It wants to be stopped, and started anew.</summary>
        public event EventHandler TunnelFailed;

        /// <summary>Handlers were too slow, and so many events are lost.</summary>
        public event EventHandler<EventsDroppedEventArgs> EventsDropped;

        /// <summary>Sends what was recorded until now, and waits for the result without holding a thread of the pool.</summary>
        /// <param name="reason">Why, for the SDK's own log.</param>
        /// <param name="progress">Is told how far it has come, on the client's thread; the last may come after the task has ended.</param>
        /// <param name="cancellationToken">Cancels it. What was not delivered is kept, and sent next time.</param>
        /// <param name="streams">Which kinds of records; null means all.</param>
        /// <returns>How it went, also if not everything arrived: see <see cref="UploadReport.Complete"/>.</returns>
        /// <exception cref="OperationCanceledException">The token cancelled it before it was complete.</exception>
        /// <exception cref="TuntrailException">It could not begin: there is no consent, or the client is closed.</exception>
        public Task<UploadReport> UploadAsync(string reason, IProgress<UploadProgress> progress = null,
            CancellationToken cancellationToken = default(CancellationToken), IReadOnlyList<Stream> streams = null)
        {
            if (cancellationToken.IsCancellationRequested)
            {
                return Task.FromCanceled<UploadReport>(cancellationToken);
            }
            return OnOwnThread(() => Finish(uploads.Begin(() => Client.Upload(reason, streams), progress), cancellationToken));
        }

        /// <summary>
        /// Sends what support needs, with a marker that the user can read out, and waits for the result like
        /// <see cref="UploadAsync"/>.
        /// </summary>
        /// <param name="request">What the user has to say, and what is sent.</param>
        /// <param name="progress">Is told how far it has come, on the client's thread; the last may come after the task has ended.</param>
        /// <param name="cancellationToken">Cancels it. What was not delivered is kept, and sent next time.</param>
        /// <returns>The marker and how it went, also if not everything arrived.</returns>
        /// <exception cref="OperationCanceledException">The token cancelled it before it was complete.</exception>
        /// <exception cref="TuntrailException">It could not begin: there is no consent, or the client is closed.</exception>
        public Task<DebugReport> DebugUploadAsync(DebugRequest request, IProgress<UploadProgress> progress = null,
            CancellationToken cancellationToken = default(CancellationToken))
        {
            if (cancellationToken.IsCancellationRequested)
            {
                return Task.FromCanceled<DebugReport>(cancellationToken);
            }
            return OnOwnThread(() =>
            {
                DebugUpload debug = null;
                Upload upload = uploads.Begin(
                    () =>
                    {
                        debug = Client.RequestDebugUpload(request);
                        return debug.Upload;
                    },
                    progress);
                return new DebugReport(debug.Marker, Finish(upload, cancellationToken));
            });
        }

        /// <summary><see cref="Client.SetConsent"/>, without blocking the caller.</summary>
        public Task SetConsentAsync(Consent consent)
        {
            return Task.Run(() => Client.SetConsent(consent));
        }

        /// <summary><see cref="Client.Flush"/>, without blocking the caller.</summary>
        public Task FlushAsync()
        {
            return Task.Run(() => Client.Flush());
        }

        /// <summary><see cref="Client.Export"/>, without blocking the caller.</summary>
        public Task<ExportReport> ExportAsync(string path)
        {
            return Task.Run(() => Client.Export(path));
        }

        /// <summary><see cref="Client.Clear"/>, without blocking the caller.</summary>
        public Task ClearAsync()
        {
            return Task.Run(() => Client.Clear());
        }

        /// <summary><see cref="Client.Stats"/>, without blocking the caller.</summary>
        public Task<ClientStats> StatsAsync()
        {
            return Task.Run(() => Client.Stats());
        }

        /// <summary>
        /// <see cref="Client.Shutdown"/>, without blocking the caller. Uploads under way end as cancelled.
        /// </summary>
        public Task ShutdownAsync()
        {
            return Task.Run(() => Client.Shutdown());
        }

        /// <summary>Shuts the client down, if that was not done, and waits for the disk.</summary>
        public void Dispose()
        {
            Client.Dispose();
        }

        /// <summary>Waiting is the client's: a thread of its own, as it may take as long as the network does.</summary>
        private static Task<T> OnOwnThread<T>(Func<T> work)
        {
            return Task.Factory.StartNew(
                work,
                CancellationToken.None,
                TaskCreationOptions.LongRunning | TaskCreationOptions.DenyChildAttach,
                TaskScheduler.Default);
        }

        /// <summary>Waits for an upload, or cancels it with the token.</summary>
        private UploadReport Finish(Upload upload, CancellationToken cancellationToken)
        {
            using (upload)
            {
                ulong id = upload.Id();
                try
                {
                    using (cancellationToken.Register(() => upload.Cancel()))
                    {
                        UploadReport report = upload.Join();
                        if (report.Outcome is UploadOutcome.Cancelled)
                        {
                            cancellationToken.ThrowIfCancellationRequested();
                        }
                        return report;
                    }
                }
                finally
                {
                    uploads.End(id);
                }
            }
        }

        private void OnEvent(Event occurred)
        {
            if (occurred is Event.UploadProgress)
            {
                Event.UploadProgress progressed = (Event.UploadProgress)occurred;
                uploads.Progress(progressed.Upload)?.Report(progressed.Progress);
                UploadProgressed?.Invoke(this, new UploadProgressEventArgs(progressed.Upload, progressed.Progress));
            }
            else if (occurred is Event.UploadEnded)
            {
                uploads.Sweep();
                UploadEnded?.Invoke(this, new UploadEndedEventArgs(((Event.UploadEnded)occurred).Report));
            }
            else if (occurred is Event.UploadWorkWaiting)
            {
                UploadWorkWaiting?.Invoke(this, EventArgs.Empty);
            }
            else if (occurred is Event.PeerConnected)
            {
                PeerConnected?.Invoke(this, new PeerEventArgs(((Event.PeerConnected)occurred).PublicKey));
            }
            else if (occurred is Event.PeerSilent)
            {
                PeerSilent?.Invoke(this, new PeerEventArgs(((Event.PeerSilent)occurred).PublicKey));
            }
            else if (occurred is Event.TunnelDeviceEnded)
            {
                TunnelDeviceEnded?.Invoke(this, EventArgs.Empty);
            }
            else if (occurred is Event.TunnelFailed)
            {
                TunnelFailed?.Invoke(this, EventArgs.Empty);
            }
            else if (occurred is Event.EventsDropped)
            {
                EventsDropped?.Invoke(this, new EventsDroppedEventArgs(((Event.EventsDropped)occurred).Count));
            }
        }

        private sealed class Listener : IEventListener
        {
            private readonly TuntrailClient owner;

            internal Listener(TuntrailClient owner)
            {
                this.owner = owner;
            }

            public void OnEvent(Event occurred)
            {
                owner.OnEvent(occurred);
            }
        }
    }
}
