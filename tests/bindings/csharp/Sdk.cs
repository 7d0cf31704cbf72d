// The SDK itself: a client that has recorded nothing sends nothing, and once closed says so.
using System;
using Tuntrail;

internal static class Program
{
    private static int Main(string[] arguments)
    {
        using (Client client = new Client(new ClientConfig(arguments[0], "https://logs.example.com", Consent.Granted)))
        {
            UploadReport report = client.Upload("test").Join();
            Console.Write((report.Complete ? "complete " : report.Summary + " ") + report.SentRecords);
            client.Shutdown();
            try
            {
                client.Upload("test");
            }
            catch (TuntrailException.Closed)
            {
                Console.WriteLine(" closed");
            }
        }
        try
        {
            new Client(new ClientConfig(arguments[0], "ftp://nowhere", Consent.Unknown));
        }
        catch (TuntrailException.Config error)
        {
            return error.Message == error.Reason ? 0 : 1;
        }
        return 2;
    }
}
